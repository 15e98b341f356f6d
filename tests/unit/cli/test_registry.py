"""How `segpipe registry` lays out what it prints."""

from __future__ import annotations

from segpipe.cli.registry import table


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() -> None:
    rows = [["", "IoU", "note"], ["road", 0.5, "x"], ["traffic sign", None, "3 of 4"], ["car", 12, "+1"]]
    assert table(rows) == [
        "              IoU     note",
        "road          0.5000  x",
        "traffic sign  -       3 of 4",
        "car               12      +1",
    ]
