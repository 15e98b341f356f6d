"""Checks of decoded samples: the borders between what is found and what is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from segpipe.data.inspection.checks import check_sample

IMAGE = np.random.default_rng(0).integers(30, 220, (100, 120, 3)).astype(np.uint8)
MASK = np.zeros((100, 120), np.uint8)
MASK[:, 60:] = 4
VOID = 255


def kinds(image: npt.NDArray[np.uint8] | None, mask: npt.NDArray[np.uint8] | None) -> list[str]:
    return [fault.kind for fault in check_sample(image, mask)]


def test_a_sound_sample_has_no_fault() -> None:
    assert kinds(IMAGE, MASK) == []
    assert kinds(None, None) == []


@pytest.mark.parametrize(
    ("size_hw", "words"),
    [
        ((120, 100), "is 100x120, its image 120x100: width and height exchanged"),
        ((50, 60), "is 60x50, its image 120x100: half of it in each direction"),
        ((25, 30), "a quarter of it in each direction"),
        ((200, 240), "twice it in each direction"),
        ((75, 90), "3/4 of it in each direction"),
        ((110, 132), "11/10 of it in each direction"),
        ((71, 85), "0.708 of it in each direction"),
        ((99, 120), "cut or padded by 0 and 1 px"),
        ((100, 300), "of another shape"),
    ],
)
def test_sizes_are_compared(size_hw: tuple[int, int], words: str) -> None:
    mask = np.zeros(size_hw, np.uint8)
    mask[:, 9:] = 4
    faults = check_sample(IMAGE, mask)
    assert [fault.kind for fault in faults] == ["size-mismatch"]
    assert words in faults[0].what


def test_a_small_thing_on_a_flat_ground_is_not_constant() -> None:
    image = np.full((100, 120, 3), 50, np.uint8)
    assert kinds(image, MASK) == ["image-constant"]
    image[41:44, 33:36] = 255  # between the pixels that the quick look sees
    assert kinds(image, MASK) == []


@pytest.mark.parametrize(
    ("color", "num_rows", "is_found"),
    [(128, 40, True), (128, 7, False), (127, 9, True), (0, 40, True), (90, 40, False)],
)
def test_a_flat_lower_part(color: int, num_rows: int, is_found: bool) -> None:
    image = IMAGE.copy()
    image[-num_rows:] = color
    faults = check_sample(image, MASK)
    assert [fault.kind for fault in faults] == ["image-grey-part"] * is_found
    if is_found:
        assert f"in its last {num_rows} of 100 rows" in faults[0].what
        assert faults[0].pixels is not None
        assert faults[0].pixels[-num_rows:].all()
        assert faults[0].pixels.sum() == num_rows * 120


def test_a_flat_lower_part_that_is_void_is_known_already() -> None:
    image, mask = IMAGE.copy(), MASK.copy()
    image[-40:], mask[-40:] = 0, VOID
    assert kinds(image, mask) == []
    mask[-1, 0] = 4
    assert kinds(image, mask) == ["image-grey-part"]


def test_black_bars_above_and_below_are_a_film() -> None:
    image = IMAGE.copy()
    image[:10], image[-10:] = 0, 0
    assert kinds(image, MASK) == []


def test_masks_of_one_class_or_none() -> None:
    mask = np.full((100, 120), VOID, np.uint8)
    assert kinds(IMAGE, mask) == ["mask-void"]
    mask[50, 50] = 4
    faults = check_sample(IMAGE, mask)
    assert [(fault.kind, fault.what) for fault in faults] == [("mask-constant", "holds only class 4 and void")]
    mask[51, 51] = 3  # a pixel that the quick look passes over
    assert kinds(IMAGE, mask) == []
    assert check_sample(IMAGE, np.zeros_like(MASK))[0].what == "holds only class 0"


def slow_seams(mask: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Counts seams and changes of class pixel by pixel."""
    num_seams = num_changes = 0
    for lines in (mask.astype(int).tolist(), mask.T.astype(int).tolist()):
        for line in lines:
            num_changes += sum(a != b for a, b in pairwise(line))
            triples = zip(line, line[1:], line[2:], strict=False)
            num_seams += sum(a < b < c or a > b > c for a, b, c in triples)
    return num_seams, num_changes


def test_seams_and_changes_are_counted_as_a_slow_count_does() -> None:
    mask = np.random.default_rng(1).integers(0, 9, (30, 40)).astype(np.uint8)
    fault = next(fault for fault in check_sample(None, mask) if fault.kind == "mask-seams")
    num_seams, num_changes = slow_seams(mask)
    assert f"({num_seams} seams, {num_changes} changes)" in fault.what


def test_an_edge_through_the_classes_between_is_a_seam() -> None:
    mask = MASK.copy()
    mask[:, 60] = 2
    faults = check_sample(IMAGE, mask)
    assert [fault.kind for fault in faults] == ["mask-seams"]
    assert faults[0].pixels is not None
    assert np.unique(np.nonzero(faults[0].pixels)[1]).tolist() == [60]


def test_a_thin_pole_among_other_edges_is_no_seam() -> None:
    mask = MASK.copy()
    mask[::10] = 8  # many drawn edges
    mask[1:20, 60] = 2
    assert kinds(IMAGE, mask) == []


def test_thin_layers_in_the_order_of_their_classes_are_drawn_so() -> None:
    """Nothing but steps of one class, and a few places where a layer is one pixel thin."""
    mask = np.repeat(np.arange(20, dtype=np.uint8), 5)[:, None].repeat(120, axis=1)
    mask[25:29, :60] = 4
    assert kinds(IMAGE, mask) == []
