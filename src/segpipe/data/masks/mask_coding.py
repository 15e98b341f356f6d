"""What the pixels of a team's own masks mean: a class table that is written by hand and checked as a whole.

The table gives each class a name and a colour, and a value if the masks hold other values than 0, 1, 2, ...
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segpipe.choices import describe_validation_error
from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable
from segpipe.data.masks.diagnosis import MAX_VALUE
from segpipe.data.masks.labels import ColorMask, IndexMask, Label
from segpipe.errors import SourceError

Byte = Annotated[int, Field(ge=0, le=255)]
Value = Annotated[int, Field(ge=0, le=MAX_VALUE)]
# YAML has no tuples.
Rgb = Annotated[tuple[Byte, Byte, Byte], Field(strict=False)]
MasksAre = Literal["indices", "colors"]


class ClassEntry(BaseModel):
    """One class of a table.

    Attributes:
        name: of the class.
        color: RGB, 0..255; of its pixels in masks of colours.
        value: of its pixels in masks of indices; without it, the class's place in the table.
    """

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1)]
    color: Rgb
    value: Value | None = None


ClassEntries = Annotated[list[ClassEntry], Field(min_length=2, max_length=MAX_NUM_CLASSES)]


@dataclass(frozen=True)
class MaskCoding:
    """What the pixels of masks mean.

    Args:
        entries: the classes, in order.
        masks_are: whether pixels are read as indices or as colours.
        void: values that are not labelled, in masks of indices; None takes 255, unless a class has that value.
        void_colors: colours that are not labelled, in masks of colours; None for none.
        written_in: the place where it is written, for messages: a file, or a key of params.yaml.
        masks_key: how `masks_are` is called there.
        file_key: the key there that names a file with the classes; None where the classes themselves stand there.
    """

    entries: Sequence[ClassEntry]
    masks_are: MasksAre = "indices"
    void: Sequence[int] | None = None
    void_colors: Sequence[tuple[int, int, int]] | None = None
    written_in: str = ""
    masks_key: str = "masks"
    file_key: str | None = None

    @property
    def classes(self) -> ClassTable:
        """Names and colours."""
        return ClassTable(tuple(entry.name for entry in self.entries), tuple(entry.color for entry in self.entries))

    @property
    def values(self) -> list[int]:
        """The value of each class's pixels in masks of indices."""
        return [place if entry.value is None else entry.value for place, entry in enumerate(self.entries)]

    @property
    def void_values(self) -> list[int]:
        """The values that are not labelled, in masks of indices: 255 if none are stated and no class has it."""
        stated = [IGNORE_INDEX] if self.void is None else list(self.void)
        return stated if self.void is not None or IGNORE_INDEX not in self.values else []

    @property
    def colors(self) -> list[tuple[int, int, int]]:
        """The colour of each class's pixels in masks of colours."""
        return [entry.color for entry in self.entries]

    def find_contradictions(self) -> list[str]:
        """Lists all contradictions, each after the key concerned; empty if there are none."""
        wrong = _named_twice("classes", [entry.name for entry in self.entries])
        if any(entry.value is None for entry in self.entries) and any(
            entry.value is not None for entry in self.entries
        ):
            wrong.append("classes: some have a value and some have none; give it to all or to none")
        if self.masks_are == "indices":
            wrong += _named_twice("classes: value", self.values)
            if taken := sorted(set(self.void or ()) & set(self.values)):
                wrong.append(f"void: {taken} are values of classes")
            if self.void_colors is not None:
                wrong.append("void_colors: is only for masks of colors; give void")
        else:
            wrong += _named_twice("classes: color", self.colors)
            if taken_colors := [list(color) for color in self.void_colors or () if color in self.colors]:
                wrong.append(f"void_colors: {taken_colors} are colours of classes")
            if self.void is not None:
                wrong.append("void: is only for masks of indices; give void_colors")
        return wrong

    def label_type(self) -> Callable[[Path], Label]:
        """Gives the function that makes a label from a mask's path; all labels share one table."""
        if self.masks_are == "colors":
            void_colors = dict.fromkeys(self.void_colors or (), IGNORE_INDEX)
            return partial(ColorMask, indices=void_colors | {color: index for index, color in enumerate(self.colors)})
        voids = dict.fromkeys(self.void_values, IGNORE_INDEX)
        return partial(IndexMask, indices=voids | {value: index for index, value in enumerate(self.values)})


def _named_twice(key: str, things: Sequence[Any]) -> list[str]:
    twice = [str(thing) for thing, count in Counter(things).items() if count > 1]
    return [f"{key}: named twice: {', '.join(twice)}"] if twice else []


def read_class_file(path: Path, root: Path) -> list[ClassEntry]:
    """Reads the class table that comes with a data set.

    `.csv` with the first line `name,r,g,b`, and `value` if needed; any other file: lines `R G B NAME`.

    Raises:
        SourceError: missing, or a line is wrong; all of them in one message.
    """
    where = path.relative_to(root).as_posix()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{where}: cannot be read: {error}; it must hold the class table") from error
    rows = _rows_of_csv(lines, where) if path.suffix.lower() == ".csv" else _rows_of_text(lines)
    entries, wrong = [], []
    for number, row in rows:
        try:
            entries.append(ClassEntry.model_validate(row))
        except ValidationError as error:
            found = describe_validation_error(error, lambda _: sorted(ClassEntry.model_fields))
            wrong += [f"{where}:{number}: {line}" for line in found]
    if not wrong and not 2 <= len(entries) <= MAX_NUM_CLASSES:
        wrong.append(f"{where}: holds {len(entries)} classes; it must be 2 to {MAX_NUM_CLASSES}")
    if wrong:
        raise SourceError("\n".join(wrong))
    return entries


def _rows_of_text(lines: Iterable[str]) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            red, green, blue, name = (*line.split(maxsplit=3), "", "", "", "")[:4]
            rows.append((number, {"name": name.strip(), "color": (red, green, blue)}))
    return rows


def _rows_of_csv(lines: Sequence[str], where: str) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(lines, skipinitialspace=True)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if missing := [name for name in ("name", "r", "g", "b") if name not in reader.fieldnames]:
        raise SourceError(f"{where}: has no column {', '.join(missing)}; the first line must be name,r,g,b")
    rows = []
    for row in reader:
        entry = {"name": row["name"], "color": (row["r"], row["g"], row["b"])}
        rows.append((reader.line_num, entry | ({"value": row["value"]} if row.get("value") else {})))
    return rows
