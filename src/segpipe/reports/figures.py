"""Numbers as the pages write them: shares as percentages with one decimal, all else with three digits."""

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
POINTS_WITH_ONE_DECIMAL = 1.0


def give_percent(share: float) -> str:
    """Writes a share, 0..1, as a percentage with one decimal; a small one that is not zero is never written as 0.

    >>> give_percent(0.4321), give_percent(0.0001), give_percent(0.0)
    ('43.2%', '<0.1%', '0.0%')
    """
    return "<0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def give_points(difference: float) -> str:
    """Writes a difference of two shares, -1..1, in percentage points: one decimal, or two below one point.

    >>> give_points(0.0312), give_points(-0.0004)
    ('+3.1', '\N{MINUS SIGN}0.04')
    """
    points = 100 * difference
    text = f"{points:+.1f}" if abs(points) >= POINTS_WITH_ONE_DECIMAL else f"{points:+.2f}"
    return text.replace("-", MINUS)


def give_digits(value: float) -> str:
    """Writes a number with three significant digits; one of four digits or more as a whole number with separators.

    >>> give_digits(0.43219), give_digits(12.3456), give_digits(1310923)
    ('0.432', '12.3', '1,310,923')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def give_color(color: Sequence[int]) -> str:
    """Writes a colour, RGB 0..255, for a style."""
    red, green, blue = color
    return f"rgb({red}, {green}, {blue})"
