"""Image files: what is read, and what is named as wrong."""

from __future__ import annotations

import contextlib
import gc
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facts import missing
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segpipe.data.images import ImageFileError, load_image, picture, read_labelled_image, size_of_image
from segpipe.data.images.decoding import BEGINNINGS, decode, is_lossy, num_pages_of
from segpipe.documents import ImageMapping
from segpipe.faults import Fault

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 48, 3)).astype(np.uint8)


def fault_of(path: Path, mask_size_hw: tuple[int, int] | None = None) -> Fault:
    reading = read_labelled_image(path, ImageMapping(), mask_size_hw)
    assert len(reading.faults) == 1
    return reading.faults[0]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    reading = read_labelled_image(tmp_path / "a.png", ImageMapping())
    assert reading.faults == ()
    np.testing.assert_array_equal(reading.pixels, PIXELS)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", ImageMapping()).pixels, PIXELS)
    assert size_of_image(tmp_path / "a.png") == (64, 48)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode).save(path)
    image = load_image(path, ImageMapping()).pixels
    assert image.shape == (3, 5, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_image_is_refused(tmp_path: Path, num_channels: int, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.full((4, 4, num_channels), 1000, np.uint16))
    fault = fault_of(tmp_path / f"a.{suffix}")
    assert fault.kind == "image-mode"
    assert not missing(fault.what, "16 bits", "1000..1000")
    assert "download.images.range: [0, 1023]" in fault.fix


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_a_truncated_file_is_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    kind = fault_of(path).kind
    assert kind in {"image-damaged", "not-an-image"}
    if suffix in {"jpg", "png"}:
        assert kind == "image-damaged"
    with pytest.raises(ImageFileError):
        load_image(path, ImageMapping())


def test_a_flipped_bit_anywhere_in_a_png_changes_no_pixel_unnoticed(tmp_path: Path) -> None:
    """Pillow itself compares no checksum of the pixels: a mask would come out with other classes."""
    path = tmp_path / "a.png"
    values = np.zeros((48, 64), np.uint8)
    values[10:30, 20:40] = 3
    Image.fromarray(values).save(path)
    content = path.read_bytes()
    num_refused = 0
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            np.testing.assert_array_equal(np.asarray(decode(path)[0]), values)
        except ImageFileError as error:
            assert error.fault.kind in {"image-damaged", "not-an-image"}
            num_refused += 1
    assert num_refused >= len(content) - 12  # the end mark says nothing about pixels


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_another_kind_of_file_is_named(tmp_path: Path, beginning: bytes) -> None:
    (tmp_path / "a.png").write_bytes(beginning.upper() + b" and more")
    fault = fault_of(tmp_path / "a.png")
    assert (fault.kind, fault.what, fault.fix) == ("not-an-image", *BEGINNINGS[beginning])
    assert size_of_image(tmp_path / "a.png") is None


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert fault_of(tmp_path / "a.png").what == "is empty"


@pytest.mark.parametrize("kind", ["ico", "eps", "tga", "pcx"])
def test_formats_that_are_not_for_images_are_not_opened(tmp_path: Path, kind: str) -> None:
    """An EPS would be run by an interpreter."""
    Image.fromarray(PIXELS).resize((16, 16)).save(tmp_path / "a.png", kind)
    assert fault_of(tmp_path / "a.png").kind == "not-an-image"


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_labelled_image(tmp_path / "a.png", ImageMapping())


def test_a_false_size_in_a_header_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:8] + chunk(b"IHDR", struct.pack(">II", 20000, 19000) + content[24:29]) + content[33:])
    fault = fault_of(path)
    assert fault.kind == "image-too-large"
    assert not missing(fault.what, "claims", "20000x19000")


def test_a_chunk_that_unpacks_to_a_hundred_times_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))) + content[33:])
    assert fault_of(path).kind == "image-damaged"


def test_pages_are_counted_and_refused(tmp_path: Path) -> None:
    page = Image.fromarray(PIXELS)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    assert num_pages_of(decode(tmp_path / "a.tif")[0]) == 2
    fault = fault_of(tmp_path / "a.tif")
    assert (fault.kind, fault.what) == ("image-mode", "holds 2 pages")


def test_a_photograph_with_a_preview_is_read(tmp_path: Path) -> None:
    photo = Image.fromarray(PIXELS)
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[photo.resize((8, 8))])
    assert load_image(tmp_path / "a.jpg", ImageMapping()).pixels.shape == PIXELS.shape


@pytest.mark.parametrize(
    ("suffix", "options", "expected"),
    [
        ("png", {}, False),
        ("jpg", {}, True),
        ("webp", {"lossless": True}, False),
        ("webp", {}, True),
        ("tif", {"compression": "tiff_lzw"}, False),
        ("tif", {"compression": "jpeg"}, True),
    ],
)
def test_compression_with_loss_is_known(
    tmp_path: Path, suffix: str, options: dict[str, object], expected: bool
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, **options)
    assert is_lossy(decode(path)[0], path) is expected


def save_turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)


@pytest.mark.parametrize(
    ("mask_size_hw", "expected", "faults"),
    [((48, 64), np.rot90(PIXELS, -1), []), ((64, 48), PIXELS, [("image-turned", True)])],
    ids=["upright", "stored"],
)
def test_the_masks_size_says_whether_a_turned_image_is_turned(
    tmp_path: Path, mask_size_hw: tuple[int, int], expected: np.ndarray, faults: list[tuple[str, bool]]
) -> None:
    save_turned(tmp_path / "a.png", 6)
    reading = read_labelled_image(tmp_path / "a.png", ImageMapping(), mask_size_hw)
    np.testing.assert_array_equal(reading.pixels, expected)
    assert [(fault.kind, fault.is_fixed) for fault in reading.faults] == faults


@pytest.mark.parametrize(("orientation", "mask_size_hw"), [(6, None), (6, (10, 10)), (3, (64, 48)), (2, (64, 48))])
def test_an_undecided_turn_is_refused(tmp_path: Path, orientation: int, mask_size_hw: tuple[int, int] | None) -> None:
    save_turned(tmp_path / "a.png", orientation)
    reading = read_labelled_image(tmp_path / "a.png", ImageMapping(), mask_size_hw)
    assert reading.pixels is None
    assert [(fault.kind, fault.is_fixed) for fault in reading.faults] == [("image-turned", False)]


def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path) -> None:
    save_turned(tmp_path / "a.png", 77)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", ImageMapping()).pixels, PIXELS)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("mask_size_hw", [(48, 64), (64, 48), None])
def test_a_turned_tiff_is_refused(tmp_path: Path, compression: str, mask_size_hw: tuple[int, int] | None) -> None:
    """Pillow turns it while loading, and deletes the entry."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", exif=exif, compression=compression)
    reading = read_labelled_image(tmp_path / "a.tif", ImageMapping(), mask_size_hw)
    assert reading.pixels is None
    assert [(fault.kind, fault.is_fixed) for fault in reading.faults] == [("image-turned", False)]
    assert "(orientation 6)" in reading.faults[0].what


def test_a_text_called_orientation_turns_nothing(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("orientation", "landscape")
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=texts)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", ImageMapping()).pixels, PIXELS)


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("1", "png", {"optimize": True}),
        ("1", "tif", {"compression": "group4"}),
        ("L", "webp", {"lossless": True}),
    ],
)
def test_a_well_packed_picture_is_no_false_claim(
    tmp_path: Path, mode: str, suffix: str, options: dict[str, Any]
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("1", (5000, 5000)).convert(mode).save(path, **options)
    assert path.stat().st_size * 1100 < 5000 * 5000
    assert decode(path)[0].size == (5000, 5000)


def test_a_great_claim_in_few_bytes_is_not_called_impossible(tmp_path: Path) -> None:
    """Group 4 can compress so much; but no memory is allocated for a header alone."""
    Image.new("1", (12000, 12000)).save(tmp_path / "a.tif", compression="group4")
    fault = fault_of(tmp_path / "a.tif")
    assert fault.kind == "image-too-large"
    assert not missing(fault.what, "damaged", "header")
    assert not missing(fault.fix, "intact", "PNG")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_the_file_is_closed(tmp_path: Path, suffix: str, is_damaged: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path)
    if is_damaged:
        path.write_bytes(path.read_bytes()[:1000])
    gc.collect()  # what other tests left
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ImageFileError):
            read_labelled_image(path, ImageMapping())
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_an_image_that_is_read_in_bands_is_the_same(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.fromarray(PIXELS).convert(mode).save(path)
    whole = load_image(path, ImageMapping()).pixels
    monkeypatch.setattr(picture, "BLOCK_PX", 48 * 5 + 7)
    np.testing.assert_array_equal(load_image(path, ImageMapping()).pixels, whole)
