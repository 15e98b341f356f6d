"""Numbers on pages."""

import pytest

from segpipe.reports.figures import MINUS, give_color, give_digits, give_percent, give_points


@pytest.mark.parametrize(
    ("share", "text"), [(0.4321, "43.2%"), (1.0, "100.0%"), (0.0, "0.0%"), (0.0004, "<0.1%"), (0.0006, "0.1%")]
)
def test_a_share(share: float, text: str) -> None:
    assert give_percent(share) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(0.0312, "+3.1"), (-0.15, f"{MINUS}15.0"), (0.0053, "+0.53"), (-0.0004, f"{MINUS}0.04")]
)
def test_a_difference_of_shares(difference: float, text: str) -> None:
    assert give_points(difference) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.43219, "0.432"), (2.0, "2.00"), (12.3456, "12.3"), (123.4, "123"), (1310923.0, "1,310,923"), (0.0, "0")],
)
def test_any_number(value: float, text: str) -> None:
    assert give_digits(value) == text


def test_a_colour() -> None:
    assert give_color((1, 20, 255)) == "rgb(1, 20, 255)"
