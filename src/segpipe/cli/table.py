"""Tables as lines of text."""

from collections.abc import Sequence

from segpipe.terminal import printable


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Gives rows as lines with aligned columns; numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(_align(c, w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else printable(" ".join(str(value).splitlines()))


def _align(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1] in "+-0123456789" and cell[-1:].isdigit() else cell.ljust(width)
