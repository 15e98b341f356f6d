"""Images and masks from files: what is read, and what is named as wrong."""

from __future__ import annotations

import contextlib
import gc
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.data.images import ImageFileError, read_image, read_mask

TABLE = ClassTable(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), void_values=(11, 255))
VALUES = np.array([[0, 1], [2, 11]], np.uint8)
INDICES = [[0, 1], [2, 255]]


def _kind(error: pytest.ExceptionInfo[ImageFileError]) -> str:
    return error.value.kind


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 5, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_image_is_refused(tmp_path: Path, num_channels: int, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.full((4, 4, num_channels), 1000, np.uint16))
    with pytest.raises(ImageFileError) as error:
        read_image(tmp_path / f"a.{suffix}")
    assert "8 bits a channel" in str(error.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_a_truncated_file_is_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(ImageFileError) as error:
        read_image(path)
    assert _kind(error) in {"image-damaged", "not-an-image"}
    if suffix in {"jpg", "png"}:
        assert _kind(error) == "image-damaged"


@pytest.mark.parametrize("content", [b"", b"not an image at all"])
def test_something_else_is_not_an_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageFileError) as error:
        read_image(tmp_path / "a.png")
    assert _kind(error) == "not-an-image"


def test_mask_values_become_indices_and_void(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png", TABLE)
    assert mask.tolist() == INDICES
    assert mask.dtype == np.uint8


def test_a_palette_mask_is_read_as_indices_not_as_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(VALUES)
    picture.putpalette([200, 100, 50] * 256)
    picture.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", TABLE).tolist() == INDICES


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_mask_whose_values_fit_is_read(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), VALUES.astype(np.uint16))
    assert read_mask(tmp_path / f"a.{suffix}", TABLE).tolist() == INDICES


def test_a_16_bit_mask_whose_values_do_not_fit_is_refused(tmp_path: Path) -> None:
    # 257 is 1 in its lower byte: cutting it off would go unnoticed.
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 257]], np.uint16))
    with pytest.raises(ImageFileError, match=r"holds 16-bit values 0..257") as error:
        read_mask(tmp_path / "a.png", TABLE)
    assert _kind(error) == "mask-values"


def test_a_mask_of_colours_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"holds colours \(mode RGB\)") as error:
        read_mask(tmp_path / "a.png", TABLE)
    assert _kind(error) == "mask-mode"


def test_values_outside_the_class_table_are_named_and_counted(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7, 7], [9, 255, 2]], np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError) as error:
        read_mask(tmp_path / "a.png", TABLE)
    expected = "holds values outside the class table: 7, 9 (3 px). Known are 0..2 and void 11, 255"
    assert (str(error.value), _kind(error)) == (expected, "mask-values")


def test_of_many_wrong_values_the_first_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.arange(20, 40, dtype=np.uint8)[None]).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"20, 21, 22, 23, 24, 25, 26, 27, \.\.\. \(20 px\)"):
        read_mask(tmp_path / "a.png", TABLE)


def test_a_truncated_mask_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageFileError) as error:
        read_mask(path, TABLE)
    assert _kind(error) == "image-damaged"


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_the_file_is_closed(tmp_path: Path, suffix: str, is_damaged: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path)
    if is_damaged:
        path.write_bytes(path.read_bytes()[:1000])
    gc.collect()  # what other tests left
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ImageFileError):
            read_image(path)
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_mask_of_few_bits_holds_its_indices(tmp_path: Path, bits: int) -> None:
    """Pillow gives grey PNGs of 2 and 4 bits with their values spread over 0..255."""
    values = np.array([[0, 1], [1, 0]], np.uint8)
    rows = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in values]
    raw = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 2, bits, 0, 0, 0, 0)), (b"IDAT", raw), (b"IEND", b"")]
    path = tmp_path / "mask.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )
    table = ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    assert read_mask(path, table).tolist() == values.tolist()
