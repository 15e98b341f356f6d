"""The pictures that people have: read as a person sees them, or refused with the true reason and the line to write."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest
from facts import missing
from PIL import Image, ImageOps
from tiff_files import write_tiff

from segpipe.data.images import (
    Header,
    ImageFileError,
    fault_of_name,
    formats,
    is_picture_name,
    load_image,
    read_header,
    read_labelled_image,
    size_of_image,
)
from segpipe.data.images.picture import turn
from segpipe.documents import ImageMapping
from segpipe.faults import Fault

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 16, 3)).astype(np.uint8)
STATED = ImageMapping(background=(255, 255, 255))


def fault_of(path: Path, mapping: ImageMapping = STATED) -> Fault:
    with pytest.raises(ImageFileError) as caught:
        load_image(path, mapping)
    assert read_labelled_image(path, mapping).faults == (caught.value.fault,)
    return caught.value.fault


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif"])
def test_an_exif_entry_turns_a_picture_without_a_mask_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = load_image(path, STATED)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.notes == (() if orientation == 1 else ("turned upright by EXIF",))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_arrays_are_turned_as_pictures_are(orientation: int, tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(turn(PIXELS, orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_transparency_is_composed_on_the_stated_background(tmp_path: Path) -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [200, 100, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = load_image(tmp_path / "a.png", STATED)
    # 128/255 of 200, 100, 0 and 127/255 of white: 227.39, 177.2, 127.
    np.testing.assert_array_equal(picture.pixels, [[[255, 0, 0], [255, 255, 255], [227, 177, 127]]])
    assert picture.notes == ("transparency composed on white",)
    green = load_image(tmp_path / "a.png", ImageMapping(background=(0, 255, 0)))
    assert green.pixels[0, 1].tolist() == [0, 255, 0]
    assert green.notes == ("transparency composed on RGB (0, 255, 0)",)


@pytest.mark.parametrize("kind", ["rgba", "la", "palette", "key", "gif", "webp", "tif", "premultiplied"])
def test_each_way_to_be_transparent_is_seen(kind: str, tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (4, 2), (90, 90, 90, 0))
    rgba.paste((10, 10, 10, 255), (0, 0, 2, 2))
    path = tmp_path / f"a.{kind if kind in {'gif', 'webp', 'tif'} else 'png'}"
    if kind == "la":
        rgba.convert("LA").save(path)
    elif kind == "palette":
        image = Image.fromarray(np.array([[0, 0, 1, 1]] * 2, np.uint8))
        image.putpalette([10, 10, 10, 90, 90, 90])
        image.save(path, transparency=bytes([255, 0]))
    elif kind == "key":
        rgba.convert("RGB").save(path, transparency=(90, 90, 90))
    elif kind == "premultiplied":
        values = np.asarray(rgba).astype(np.uint16) * 257
        values[:, 2:, :3] = 0
        path = write_tiff(tmp_path / "a.tif", values, photometric=2, extra=(1,))
    else:
        rgba.save(path, **({"lossless": True} if kind == "webp" else {}))
    picture = load_image(path, replace(STATED, range=(0, 65535)))
    np.testing.assert_array_equal(picture.pixels[0, :, 0], [10, 10, 255, 255])
    assert "transparency composed on white" in picture.notes


def test_an_opaque_alpha_channel_is_not_mentioned(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("RGBA").save(tmp_path / "a.png")
    picture = load_image(tmp_path / "a.png", STATED)
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.notes == ()


def test_hidden_colours_are_named_where_no_background_is_stated(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (9, 8, 7, 0)).save(tmp_path / "a.png")
    reading = read_labelled_image(tmp_path / "a.png", ImageMapping())
    assert reading.pixels is not None and reading.pixels[0, 0].tolist() == [9, 8, 7]
    (fault,) = reading.faults
    assert fault.kind == "image-transparent" and "16 px" in fault.what
    assert "download.images.background: [255, 255, 255]" in fault.fix
    assert read_labelled_image(tmp_path / "a.png", STATED).faults == ()


@pytest.mark.parametrize("suffix", ["gif", "ppm", "bmp", "webp", "avif", "jp2", "j2k", "jfif", "tif"])
def test_usual_formats_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix in {"avif", "jfif"} else {}
    image = Image.new("RGB", (16, 24), (10, 200, 90))
    image.save(path, {"jfif": "JPEG"}.get(suffix), **options)
    assert is_picture_name(path.name) and fault_of_name(path.name) is None
    assert size_of_image(path) == (24, 16) and read_header(path) == Header(24, 16, 1)
    picture = load_image(path, STATED)
    assert np.abs(picture.pixels.astype(int) - [10, 200, 90]).max() <= 3
    assert picture.notes == ()


def test_heic_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (16, 24), (10, 200, 90)).save(tmp_path / "a.heic", quality=95)
    assert is_picture_name("a.HEIC") and fault_of_name("a.heic") is None
    picture = load_image(tmp_path / "a.heic", STATED)
    assert picture.pixels.shape == (24, 16, 3)
    assert np.abs(picture.pixels.astype(int) - [10, 200, 90]).max() <= 6


def test_a_moving_picture_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert fault_of(tmp_path / "a.gif").what == "holds 3 pages"


DEEP = {
    "png grey": lambda path, values: cv2.imwrite(f"{path}.png", values[..., 0]),
    "png colour": lambda path, values: cv2.imwrite(f"{path}.png", values[..., ::-1]),
    "tif grey": lambda path, values: cv2.imwrite(f"{path}.tif", values[..., 0]),
    "tif colour": lambda path, values: cv2.imwrite(f"{path}.tif", values[..., ::-1]),
    "npy colour": lambda path, values: np.save(f"{path}.npy", values),
    "ppm colour": lambda path, values: cv2.imwrite(f"{path}.ppm", values[..., ::-1]),
    "pgm grey": lambda path, values: Path(f"{path}.pgm").write_bytes(
        b"P5\n%d %d\n4095\n" % values.shape[1::-1] + values[..., 0].astype(">u2").tobytes()
    ),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_values_are_mapped_as_stated_or_refused_with_the_line(kind: str, tmp_path: Path) -> None:
    """Twelve bits in sixteen: 0..4095."""
    values = np.array([[[0, 16, 4095]] * 3, [[8, 2048, 4000]] * 3], np.uint16).repeat(9, 0).repeat(7, 1)
    values[0, 0] = 4095
    DEEP[kind](tmp_path / "a", values)
    (path,) = tmp_path.iterdir()
    shown = values[..., [0, 0, 0]] if "grey" in kind else values
    fault = fault_of(path)
    assert fault.kind == "image-mode"
    assert not missing(fault.what, "16 bits", f"{shown.min()}..4095")
    assert "`download.images.range: [0, 4095]`" in fault.fix
    picture = load_image(path, replace(STATED, range=(0.0, 4095.0)))
    np.testing.assert_array_equal(picture.pixels, np.rint(shown * (255 / 4095)).astype(np.uint8))
    assert picture.notes == ("values 0..4095 mapped to 0..255",)
    cut = load_image(path, replace(STATED, range=(100.0, 2100.0)))
    np.testing.assert_array_equal(cut.pixels, np.rint(np.clip((shown - 100.0) / 2000, 0, 1) * 255))


def test_percentiles_are_of_each_image(tmp_path: Path) -> None:
    values = np.arange(101 * 3, dtype=np.float32).reshape(101, 3) / 3
    np.save(tmp_path / "a.npy", values)
    picture = load_image(tmp_path / "a.npy", replace(STATED, percentiles=(0.0, 100.0)))
    np.testing.assert_array_equal(picture.pixels[..., 0], np.rint(values * (255 / values.max())))
    assert "percentiles of this image" in picture.notes[0]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (np.array([[0.25, 0.5]], np.float32), "[0, 1]"),
        (np.array([[-3.5, 7.25]], np.float64), "[-4, 8]"),
        (np.array([[-5, 900]], np.int16), "[-5, 900]"),
        (np.array([[3, 900]], np.uint16), "[0, 1023]"),
        (np.array([[3, 70000]], np.int32), "[3, 70000]"),
    ],
)
def test_the_line_fits_the_values(values: np.ndarray, line: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    fault = fault_of(tmp_path / "a.npy")
    assert f"download.images.range: {line}" in fault.fix
    assert f"{values.min():g}..{values.max():g}" in fault.what


def test_what_is_no_number_is_black(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[np.nan, 0.0, 1.0, np.inf]], np.float32))
    picture = load_image(tmp_path / "a.npy", replace(STATED, range=(0.0, 1.0)))
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 255, 255]
    np.save(tmp_path / "b.npy", np.full((2, 2), np.nan))
    assert "NaN" in fault_of(tmp_path / "b.npy").what


def test_eight_bits_stay_where_a_range_is_stated(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", PIXELS)
    write_tiff(tmp_path / "a.tif", PIXELS, photometric=2)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(load_image(path, replace(STATED, range=(0.0, 4095.0))).pixels, PIXELS)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((3, 40, 40), np.uint8), "(3, 40, 40)"),
        (np.zeros((2, 5, 5, 3), np.uint8), "(2, 5, 5, 3)"),
        (np.zeros((0, 4), np.uint8), "(0, 4, 1)"),
        (np.zeros((4, 4), complex), "complex128"),
    ],
)
def test_an_array_of_another_form_is_named(array: np.ndarray, expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    assert expected in fault_of(tmp_path / "a.npy").what


def test_an_array_that_holds_code_or_is_cut_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    assert fault_of(tmp_path / "a.npy").kind == "image-damaged"
    np.save(tmp_path / "a.npy", PIXELS)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    assert fault_of(tmp_path / "a.npy").kind == "image-damaged"


@pytest.mark.parametrize("is_archive", [True, False])
def test_an_array_that_is_an_archive_or_has_a_damaged_header_is_refused(tmp_path: Path, is_archive: bool) -> None:
    path = tmp_path / "a.npy"
    np.save(path, PIXELS)
    content = path.read_bytes()
    # Without its last brace the header has no end; NumPy raises a TokenError, and a BadZipFile for the archive.
    path.write_bytes(b"PK\x03\x04 an archive" if is_archive else content.replace(b"}", b" "))
    assert fault_of(path).kind == "image-damaged"
    assert read_header(path) is None


def test_boolean_arrays_are_black_and_white(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[True, False]]))
    assert load_image(tmp_path / "a.npy", STATED).pixels[0, :, 1].tolist() == [255, 0]


FOUR = np.dstack([PIXELS, PIXELS[..., 0] // 2])


def test_a_fourth_band_is_named_and_bands_chooses(tmp_path: Path) -> None:
    """GDAL writes red, green, blue and near infrared as RGB and one band without a meaning."""
    path = write_tiff(tmp_path / "a.tif", FOUR, photometric=2, extra=(0,))
    reading = read_labelled_image(path, STATED)
    np.testing.assert_array_equal(reading.pixels, PIXELS)
    (fault,) = reading.faults
    assert fault.kind == "image-bands" and "4 bands" in fault.what
    assert "download.images.bands: [1, 2, 3]" in fault.fix
    assert load_image(path, STATED).notes == ("bands 1, 2, 3 of 4",)
    infrared = replace(STATED, bands=(4, 1, 2))
    np.testing.assert_array_equal(load_image(path, infrared).pixels, FOUR[..., [3, 0, 1]])
    assert read_labelled_image(path, infrared).faults == ()
    np.testing.assert_array_equal(load_image(path, replace(STATED, bands=(4,))).pixels, FOUR[..., [3, 3, 3]])


@pytest.mark.parametrize("num_bands", [2, 4, 5])
@pytest.mark.parametrize("is_separate", [False, True])
def test_bands_without_a_meaning_are_refused_until_they_are_chosen(
    num_bands: int, is_separate: bool, tmp_path: Path
) -> None:
    """GDAL's MINISBLACK: Pillow knows none of 4 and 5, and takes the second of two for alpha."""
    values = np.random.default_rng(1).integers(0, 255, (9, 8, num_bands)).astype(np.uint8)
    path = write_tiff(tmp_path / "a.tif", values, extra=(0,) * (num_bands - 1), is_separate=is_separate, is_packed=True)
    fault = fault_of(path)
    assert fault.kind == "image-mode"
    assert f"{num_bands} bands" in fault.what and "download.images.bands: [" in fault.fix
    assert size_of_image(path) == (9, 8)
    picture = load_image(path, replace(STATED, bands=(2, 1, num_bands)))
    np.testing.assert_array_equal(picture.pixels, values[..., [1, 0, num_bands - 1]])
    assert picture.notes == (f"bands 2, 1, {num_bands} of {num_bands}",)


def test_a_band_that_does_not_exist_is_named(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    fault = fault_of(tmp_path / "a.png", replace(STATED, bands=(4, 3, 2)))
    assert not missing(fault.what, "has 3 bands", "band 4")
    swapped = load_image(tmp_path / "a.png", replace(STATED, bands=(3, 2, 1)))
    np.testing.assert_array_equal(swapped.pixels, PIXELS[..., ::-1])


def test_grey_with_a_declared_alpha_is_grey(tmp_path: Path) -> None:
    values = np.dstack([PIXELS[..., 0], np.full((24, 16), 255, np.uint8)]).astype(np.uint16) * 257
    path = write_tiff(tmp_path / "a.tif", values, extra=(2,))
    picture = load_image(path, replace(STATED, range=(0, 65535)))
    np.testing.assert_array_equal(picture.pixels, PIXELS[..., [0, 0, 0]])


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.CR2", "raw"),
        ("folder.png/a.nrrd", "volume"),
        ("a.psd", "drawing"),
    ],
)
def test_a_picture_that_is_not_read_is_named_by_its_suffix(name: str, word: str, tmp_path: Path) -> None:
    reason = fault_of_name(name)
    assert reason is not None and word in reason
    assert not is_picture_name(name)
    path = tmp_path / Path(name).name
    path.write_bytes(b"x")
    fault = fault_of(path)
    assert fault.kind == "not-an-image" and f"{fault.what}. {fault.fix}" == reason


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("a.HEIC", "pillow_heif", "heif"),
        ("a.dcm", "pydicom", "dicom"),
        ("folder.png/a.nii.gz", "nibabel", "nifti"),
        ("a.nii", "nibabel", "nifti"),
    ],
)
def test_without_its_extra_a_picture_is_named_with_the_line_that_installs_it(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_picture_name(name)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    spec = spec_from_file_location("formats_without_extra", formats.__file__)
    assert spec is not None and spec.loader is not None
    without = module_from_spec(spec)
    spec.loader.exec_module(without)
    assert not without.is_picture_name(name) and without.is_named_as_picture(name)
    assert f"pip install 'segpipe[{extra}]'" in without.fault_of_name(name)
    assert without.UNREAD_SUFFIXES == formats.UNREAD_SUFFIXES | (formats.IMAGE_SUFFIXES - without.IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", ["notes.txt", "README", ".png", "Thumbs.db", "a.csv"])
def test_other_files_are_no_pictures(name: str) -> None:
    assert not is_picture_name(name) and fault_of_name(name) is None


def test_a_false_size_in_a_header_costs_no_memory(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", FOUR, photometric=2, extra=(0,))
    content = path.read_bytes()
    for side_px, word in ((9000, "claims 9000x9000"), (20_000, "20000x20000 px of 4 bytes")):
        false = content
        for tag, side in ((256, 16), (257, 24)):
            true = struct.pack("<HHII", tag, 4, 1, side)
            assert true in content
            false = false.replace(true, struct.pack("<HHII", tag, 4, 1, side_px))
        path.write_bytes(false)
        fault = fault_of(path)
        assert fault.kind == "image-too-large" and word in fault.what


def test_a_cut_or_changed_file_of_many_bands_is_damaged(tmp_path: Path) -> None:
    """Whatever byte is changed, there is a picture of the stated size or a fault, never another error."""
    path = write_tiff(tmp_path / "a.tif", FOUR, photometric=2, extra=(0,), is_packed=True, predictor=2)
    content = path.read_bytes()
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        assert fault_of(path).kind in {"image-damaged", "not-an-image"}
    for place in [*range(8), *range(len(content) - 250, len(content))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        reading = read_labelled_image(path, STATED)
        assert (reading.pixels is None) <= bool(reading.faults)


def test_deep_values_are_what_reading_costs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((30, 20, 5), np.uint16))
    assert read_header(tmp_path / "a.npy") == Header(30, 20, 10)
    write_tiff(tmp_path / "a.tif", FOUR.astype(np.float32), photometric=2, extra=(0,))
    assert read_header(tmp_path / "a.tif") == Header(24, 16, 16)
