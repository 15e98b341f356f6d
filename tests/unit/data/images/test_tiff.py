"""TIFF files of many bands and deep values: each way of storing them gives the same numbers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from tiff_files import write_tiff

from segpipe.data.images.tiff import TiffError, read_layout, read_values


def random_values(dtype: str, num_bands: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (23, 37, num_bands))
    return (values * 300.7 - 1000 if dtype[0] == "f" else values).astype(dtype)


def read(path: Path) -> np.ndarray:
    layout = read_layout(path)
    assert layout is not None
    return read_values(path, layout)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f2", "f4", "f8"])
@pytest.mark.parametrize(
    ("tile_px", "is_separate", "predictor"),
    [*itertools.product([None, 16], [False, True], [1, 2]), (None, False, 3), (16, True, 3), (16, False, 3)],
)
def test_values_are_those_that_were_written(
    dtype: str, tile_px: int | None, is_separate: bool, predictor: int, tmp_path: Path
) -> None:
    if predictor == 3 and dtype[0] != "f":
        pytest.skip("a predictor of fractions")
    for order, is_big, is_packed in [("<", False, True), (">", False, False), (">", True, True)]:
        values = random_values(dtype, 5)
        path = write_tiff(
            tmp_path / "a.tif",
            values,
            order=order,
            is_big=is_big,
            tile_px=tile_px,
            is_separate=is_separate,
            is_packed=is_packed,
            predictor=predictor,
        )
        found = read(path)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_files_of_another_writer_are_read(dtype: str, tmp_path: Path) -> None:
    """OpenCV's libtiff packs with LZW and a predictor."""
    values = random_values(dtype, 3)
    cv2.imwrite(str(tmp_path / "a.tif"), values[..., ::-1])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), values)


def test_what_is_no_tiff_has_no_layout(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    assert read_layout(tmp_path / "a.png") is None


def test_smaller_copies_are_no_pages(tmp_path: Path) -> None:
    """Cloud-optimised GeoTIFFs hold overviews."""
    first, second = Image.new("RGB", (64, 64)), Image.new("RGB", (32, 32))
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    layout = read_layout(tmp_path / "a.tif")
    assert layout is not None and layout.num_pages == 1
    first.save(tmp_path / "b.tif", save_all=True, append_images=[Image.new("RGB", (32, 32))])
    layout = read_layout(tmp_path / "b.tif")
    assert layout is not None and layout.num_pages == 2


@pytest.mark.parametrize(
    ("options", "expected"), [({"compression": 7}, "compression"), ({"photometric": 2, "extra": (0,)}, None)]
)
def test_a_kind_that_is_not_read_is_named(options: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", random_values("u2", 4), **options)
    if expected is None:
        assert read(path).shape == (23, 37, 4)
    else:
        with pytest.raises(TiffError, match=expected):
            read(path)
