"""Which mistake makes which colours (the corpus of integration/test_mask_doctor.py has one case of each)."""

from __future__ import annotations

import numpy as np
import pytest
from facts import missing

from segpipe.data.masks.color_diagnosis import Color, Colors, diagnose_colors

COLOR_MAP: dict[Color, int] = {(0, 0, 0): 255, (128, 0, 0): 0, (0, 128, 64): 1, (128, 128, 0): 2}


def diagnose(*colors: Color, palette_indices: list[int] | None = None) -> tuple[str, str, np.ndarray]:
    """Of a mask that holds each colour in a square of its own."""
    rgb = np.repeat(np.repeat(np.array([colors], np.uint8), 30, axis=0), 30, axis=1)
    indices = None if palette_indices is None else np.repeat(np.array([palette_indices], np.uint8), 30, axis=1)
    fault = diagnose_colors(Colors(rgb, COLOR_MAP, indices, False))
    assert fault.pixels is not None
    return fault.kind, fault.what, fault.pixels


@pytest.mark.parametrize(
    ("colors", "kind", "words"),
    [
        ([(0, 0, 0), (0, 0, 128)], "mask-colors", "red and blue are exchanged (BGR): #000080 (900 px)"),
        ([(0, 0, 128), (9, 9, 200)], "mask-colors", "outside the label map"),
        ([(0, 0, 0), (1, 1, 1), (2, 2, 2)], "mask-mode", "class indices in three equal channels, not colours: 0, 1, 2"),
        ([(0, 0, 0), (3, 3, 3)], "mask-colors", "a few units off known ones: #030303 (nearest #000000, 3 away)"),
        ([(128, 0, 0), (128, 0, 12)], "mask-colors", "#80000c (nearest #800000, 12 away)"),
        ([(128, 0, 0), (128, 0, 13)], "mask-colors", "outside the label map: #80000d (nearest #800000, 13 away)"),
    ],
)
def test_colors(colors: list[Color], kind: str, words: str) -> None:
    found, what, pixels = diagnose(*colors)
    assert found == kind
    assert words in what
    is_unknown = [color not in COLOR_MAP for color in colors]
    assert pixels[0, ::30].tolist() == is_unknown


def test_a_palette_of_other_colors_with_right_indices() -> None:
    assert diagnose((9, 99, 9), (7, 77, 200), palette_indices=[0, 2])[0] == "mask-mode"
    assert diagnose((9, 99, 9), (7, 77, 200), palette_indices=[0, 3])[0] == "mask-colors"


def test_the_most_frequent_unknown_color_is_named_first() -> None:
    _, what, _ = diagnose((250, 9, 9), (9, 250, 9), (9, 250, 9))
    assert not missing(what, "outside", "map", "#09fa09")
