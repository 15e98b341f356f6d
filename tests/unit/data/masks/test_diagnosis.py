"""Which mistake makes which values: the borders between the diagnoses.

The corpus of integration/test_mask_doctor.py has one case of each.
"""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.data.masks.diagnosis import Diagnosis, Values, diagnose_values, palette_greys, suspect_values
from segpipe.data.masks.labels import plain_indices


def diagnose(present: list[int], indices: dict[int, int], dtype: type = np.uint8) -> Diagnosis:
    """Of a mask that holds each value in a square of its own."""
    pixels = np.repeat(np.repeat(np.array([present], dtype), 30, axis=0), 30, axis=1)
    num_px = np.bincount(pixels.ravel(), minlength=256 if dtype is np.uint8 else 65536)
    return diagnose_values(Values(pixels, num_px, indices, False))


@pytest.mark.parametrize(
    ("present", "indices", "kind", "words"),
    [
        ([1, 2, 3], plain_indices(3), "mask-values", "holds 1, 2, 3, the class table's values are 0..2"),
        ([3], plain_indices(3), "mask-values", "holds 3, the class table's values are 0..2: 3 is not one of them"),
        ([0, 1, 3], plain_indices(3), "mask-values", "holds 0, 1, 3, the class table's values are 0..2"),
        ([1, 4], plain_indices(3), "mask-values", "outside the class table: 4 (900 px)"),
        ([0, 7], plain_indices(3), "mask-values", "outside the class table: 7 (900 px)"),
        ([0, 10, 20], plain_indices(3), "mask-values", "multiplied by 10,"),
        ([0, 10, 30], plain_indices(3), "mask-values", "outside the class table"),
        ([0, 128, 255], plain_indices(3, ()), "mask-values", "multiplied by 127.5"),
        ([0, 64, 191, 255], plain_indices(5, ()), "mask-values", "multiplied by 63.75"),
        ([0, 255], plain_indices(3, ()), "mask-binary", "is a 0/255 mask"),
        ([255], plain_indices(2, ()), "mask-binary", "is a 0/255 mask: 900 px hold 255"),
        ([0, 38, 75, 113], plain_indices(4), "mask-mode", "greys of a palette"),
        ([0, 38, 75, 112], plain_indices(4), "mask-mode", "greys of a palette"),
        ([0, 38, 75, 100], plain_indices(4), "mask-values", "outside the class table"),
    ],
)
def test_bytes(present: list[int], indices: dict[int, int], kind: str, words: str) -> None:
    fault = diagnose(present, indices).fault
    assert fault.kind == kind
    assert words in fault.what


@pytest.mark.parametrize(
    ("present", "indices", "void", "begins_at"),
    [
        # CamVid's 11 classes with a forgotten void value, with and without sky.
        ([0, 3, 5, 11], plain_indices(11, ()), "(11)", None),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], plain_indices(11), "(11, 255)", 1),
        ([19], plain_indices(19), "(19, 255)", 1),
        ([0, 1, 2], {1: 0, 2: 1}, "(0)", 0),
    ],
)
def test_a_value_next_to_the_table_is_no_reason_to_change_masks(
    present: list[int], indices: dict[int, int], void: str, begins_at: int | None
) -> None:
    """A forgotten void value looks like values that are off by one; following such advice would shift all labels."""
    diagnosis = diagnose(present, indices)
    assert diagnosis.fixed is None and not diagnosis.fault.is_fixed
    fix = diagnosis.fault.fix
    assert f"add it to the void values {void}" in fix
    assert "ubtract" not in fix and "add 1 " not in fix
    assert (f"begin at {begins_at}" in fix) if begins_at is not None else ("begin at" not in fix)


def test_a_value_next_to_the_table_comes_from_the_compression_where_there_was_one() -> None:
    pixels = np.repeat(np.array([[0, 1, 2, 3]], np.uint8), 30, axis=1)
    num_px = np.bincount(pixels.ravel(), minlength=256)
    fault = diagnose_values(Values(pixels, num_px, plain_indices(3), is_lossy=True)).fault
    assert fault.kind == "mask-blended" and "void" not in fault.fix


@pytest.mark.parametrize(
    ("present", "words", "fixed"),
    [
        ([0, 257, 514], "257 times", [0, 1, 2]),
        ([0, 256, 512], "256 times", [0, 1, 2]),
        ([0, 257, 65535], "257 times", [0, 1, 255]),
        ([0, 257, 515], "16-bit values", None),
        ([0, 257 * 70], "16-bit values", None),
        ([1, 1001, 2017], "instance numbers", None),
        ([77, 1001, 2017], "16-bit values", None),
    ],
)
def test_two_bytes(present: list[int], words: str, fixed: list[int] | None) -> None:
    diagnosis = diagnose(present, plain_indices(3), np.uint16)
    assert diagnosis.fault.kind == "mask-depth"
    assert words in diagnosis.fault.what
    assert diagnosis.fault.is_fixed == (fixed is not None)
    found = None if diagnosis.fixed is None else np.unique(diagnosis.fixed).tolist()
    assert found == fixed


def test_the_unknown_pixels_are_marked_and_counted() -> None:
    pixels = diagnose([0, 7, 0, 9], plain_indices(3)).fault.pixels
    assert pixels is not None
    assert pixels[:, 30:60].all()
    assert pixels[:, 90:].all()
    assert pixels.sum() == 1800


def test_of_many_unknown_values_the_first_are_named() -> None:
    fault = diagnose(list(range(20, 240, 7)), plain_indices(3)).fault
    assert "20, 27, 34, 41, 48, 55, 62, 69, ... (" in fault.what


@pytest.mark.parametrize(
    ("present", "indices", "is_suspect"),
    [
        ([0, 255], plain_indices(2), True),
        ([0, 1, 255], plain_indices(2), False),
        ([255], plain_indices(2), False),
        ([0], plain_indices(2), False),
        ([0, 255], plain_indices(3), False),
        ([0, 255], {0: 0, 255: 1}, False),
    ],
)
def test_0_and_255_alone_are_suspect_where_255_is_void(
    present: list[int], indices: dict[int, int], is_suspect: bool
) -> None:
    num_px = np.zeros(256, np.int64)
    num_px[present] = 5
    assert [fault.kind for fault in suspect_values(num_px, indices)] == ["mask-binary-void"] * is_suspect


def test_the_greys_of_the_voc_palette() -> None:
    # Black, (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128): 0.299 R + 0.587 G + 0.114 B.
    assert {0, 38, 75, 113, 15} <= palette_greys()
