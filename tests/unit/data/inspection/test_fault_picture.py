"""Pictures of faults: what is marked, and how large."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segpipe.data.inspection.fault_picture import LOUD_RGB, MAX_SIDE_PX, encode_picture, mark_fault
from segpipe.faults import Fault

GREY = np.full((300, 900, 3), 100, np.uint8)


def drawn(content: bytes | None) -> npt.NDArray[np.int64]:
    assert content is not None
    return np.asarray(Image.open(io.BytesIO(content))).astype(np.int64)


def is_loud(picture: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.asarray((np.abs(picture - LOUD_RGB) < 60).all(axis=2))


def fault_at(shape: tuple[int, int], rows: slice, columns: slice) -> Fault:
    pixels = np.zeros(shape, np.bool_)
    pixels[rows, columns] = True
    return Fault("mask-values", "is wrong", "Fix it", pixels)


def test_a_small_place_is_cut_out_and_enlarged() -> None:
    picture = drawn(mark_fault(GREY, None, fault_at((300, 900), slice(100, 104), slice(500, 504))))
    assert picture.shape == (416, 416, 3)  # 4 px and a margin of 24 on each side, 8 times as large
    rows, columns = np.nonzero(is_loud(picture))
    assert abs(rows.mean() - 208) < 8
    assert abs(columns.mean() - 208) < 8
    assert abs(is_loud(picture).sum() - (4 * 8) ** 2) < 150


@pytest.mark.parametrize("corner", [(0, 0), (299, 899)])
def test_a_place_at_the_border_is_shown(corner: tuple[int, int]) -> None:
    row, column = corner
    picture = drawn(mark_fault(GREY, None, fault_at((300, 900), slice(row, row + 1), slice(column, column + 1))))
    assert is_loud(picture).any()


def test_single_pixels_of_a_large_image_stay_to_be_seen() -> None:
    fault = fault_at((3000, 9000), slice(0, 1), slice(0, 1))
    assert fault.pixels is not None
    fault.pixels[2999, 8999] = True
    picture = drawn(mark_fault(np.full((3000, 9000, 3), 100, np.uint8), None, fault))
    assert max(picture.shape) == MAX_SIDE_PX
    assert is_loud(picture)[:3, :3].any()
    assert is_loud(picture)[-3:, -3:].any()


@pytest.mark.parametrize("image", [None, np.zeros((5, 5, 3), np.uint8)])
@pytest.mark.parametrize("mask", [None, np.ones((300, 900), np.uint8)])
def test_without_a_fitting_image_the_place_is_shown_all_the_same(
    image: npt.NDArray[np.uint8] | None, mask: npt.NDArray[np.uint8] | None
) -> None:
    assert is_loud(drawn(mark_fault(image, mask, fault_at((300, 900), slice(0, 300), slice(0, 450))))).any()


def test_a_fault_without_a_place_has_no_picture() -> None:
    assert mark_fault(GREY, None, Fault("mask-void", "is void", "Label it")) is None
    assert mark_fault(GREY, None, fault_at((300, 900), slice(0, 0), slice(0, 0))) is None


def test_pictures_are_shrunk_and_keep_their_colours() -> None:
    picture = np.zeros((100, 1000, 3), np.uint8)
    picture[..., 0] = 250
    found = drawn(encode_picture(picture))
    assert found.shape == (48, 480, 3)
    assert np.abs(found - (250, 0, 0)).max() < 10
