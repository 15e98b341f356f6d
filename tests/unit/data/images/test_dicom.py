"""DICOM files as their device means them; pydicom writes them here."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import write_dicom
from facts import missing
from PIL import Image, ImageFile
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from segpipe.data.images import (
    Header,
    ImageFileError,
    fault_of_name,
    is_picture_name,
    load_image,
    read_header,
    read_labelled_image,
)
from segpipe.documents import ImageMapping
from segpipe.faults import Fault

NOTHING_STATED = ImageMapping()
HOUNSFIELD = ImageMapping(range=(-1000, 1000))
# Stored values; with slope 1 and intercept -1024 they are -1024, -24, 976.
STORED = np.array([[0, 1000, 2000], [0, 1000, 2000]], np.int16)
CT = {"RescaleSlope": 1, "RescaleIntercept": -1024}


def grey_of(path: Path, mapping: ImageMapping) -> list[list[int]]:
    """The picture's rows; all three channels are equal."""
    pixels = load_image(path, mapping).pixels
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].tolist()


def fault_of(path: Path, mapping: ImageMapping = NOTHING_STATED) -> Fault:
    with pytest.raises(ImageFileError) as caught:
        load_image(path, mapping)
    assert read_labelled_image(path, mapping).faults == (caught.value.fault,)
    return caught.value.fault


def test_values_are_rescaled_and_mapped_by_the_stated_range(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, **CT)
    # -1024 is below the range; (-24 + 1000) / 2000 * 255 = 124.4; (976 + 1000) / 2000 * 255 = 251.9.
    assert grey_of(path, HOUNSFIELD) == [[0, 124, 252]] * 2
    assert is_picture_name("A.DCM") and fault_of_name("a.dicom") is None
    assert read_header(path) == Header(2, 3, 4)


def test_fractions_of_a_slope_stay(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, RescaleSlope=0.25, RescaleIntercept=0.5)
    # 0.5, 250.5, 500.5 of 0..510: 0.25, 125.25, 250.25.
    assert grey_of(path, ImageMapping(range=(0, 510))) == [[0, 125, 250]] * 2


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_large_products_do_not_overflow(dtype: type, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 15_000, 60_000]], dtype), RescaleSlope=100_000)
    assert grey_of(path, ImageMapping(range=(0, 6e9))) == [[0, 64, 255]]


def test_the_files_window_counts_where_nothing_is_stated(tmp_path: Path) -> None:
    window = {"WindowCenter": [0.5, 40], "WindowWidth": [2001, 80]}
    path = write_dicom(tmp_path / "a.dcm", STORED, **CT, **window)
    # The first one: black at 0.5 - 0.5 - 2000/2 = -1000, white at 1000.
    picture = load_image(path, NOTHING_STATED)
    assert picture.pixels[0, :, 0].tolist() == [0, 124, 252]
    assert picture.notes == ("values -1000..1000, the file's window, mapped to 0..255",)
    # A stated range, or percentiles, decide against it: 0, 1000, 2000 of 0..2000.
    assert grey_of(path, ImageMapping(range=(-1024, 976))) == [[0, 128, 255]] * 2
    assert grey_of(path, ImageMapping(percentiles=(0.0, 100.0))) == [[0, 128, 255]] * 2


def test_an_exact_window_is_half_a_width_to_each_side(tmp_path: Path) -> None:
    window = {"WindowCenter": 0, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}
    assert grey_of(write_dicom(tmp_path / "a.dcm", STORED, **CT, **window), NOTHING_STATED) == [[0, 124, 252]] * 2


@pytest.mark.parametrize("window", [{}, {"VOILUTFunction": "SIGMOID", "WindowCenter": 0, "WindowWidth": 2000}])
def test_without_a_window_the_line_to_write_is_named(window: dict[str, Any], tmp_path: Path) -> None:
    fault = fault_of(write_dicom(tmp_path / "a.dcm", STORED, **CT, **window))
    assert fault.kind == "image-mode"
    assert not missing(fault.what, "-1024..976") and not missing(fault.fix, "download.images.range: [-1024, 976]")


def test_the_lowest_value_of_monochrome1_is_white(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, PhotometricInterpretation="MONOCHROME1", **CT)
    assert grey_of(path, HOUNSFIELD) == [[255, 131, 3]] * 2
    path = write_dicom(tmp_path / "b.dcm", STORED.astype(np.uint8) // 4, PhotometricInterpretation="MONOCHROME1")
    assert grey_of(path, HOUNSFIELD) == (255 - STORED.astype(np.uint8) // 4).tolist()


def test_eight_bits_are_never_mapped(tmp_path: Path) -> None:
    values = np.array([[0, 7, 255]], np.uint8)
    assert grey_of(write_dicom(tmp_path / "a.dcm", values, WindowCenter=50, WindowWidth=10), HOUNSFIELD) == [
        [0, 7, 255]
    ]


def test_unused_bits_are_left_out(tmp_path: Path) -> None:
    """Of 12 bits in 16 the others may hold anything, and the 12th is the sign."""
    path = write_dicom(tmp_path / "a.dcm", np.array([[0x0FFF, 0x7001]], np.int16), BitsStored=12, HighBit=11)
    assert grey_of(path, ImageMapping(range=(-1, 1))) == [[0, 255]]


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colours_are_rgb(photometric: str, tmp_path: Path) -> None:
    # Luminance 76, 150, 29 and the differences of pure red, green and blue (PS3.3, C.7.6.3.1.2).
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    ybr = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107]]], np.uint8)
    values = rgb if photometric == "RGB" else ybr
    picture = load_image(write_dicom(tmp_path / "a.dcm", values, PhotometricInterpretation=photometric), NOTHING_STATED)
    assert np.abs(picture.pixels.astype(int) - rgb).max() <= 2


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    palette = {}
    for name, shades in {"Red": (0, 255), "Green": (10, 20), "Blue": (30, 0)}.items():
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = np.array([shade * 257 for shade in shades], "<u2").tobytes()
    values = np.array([[0, 1]], np.uint8)
    path = write_dicom(tmp_path / "a.dcm", values, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert load_image(path, NOTHING_STATED).pixels.tolist() == [[[0, 10, 30], [255, 20, 0]]]


def test_several_pictures_are_refused_with_the_line_that_saves_one(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((5, 4, 3), np.uint8), NumberOfFrames=5, Rows=4, Columns=3)
    fault = fault_of(path)
    assert fault.kind == "image-mode" and "5 pictures" in fault.what and "pixel_array[NUMBER]" in fault.fix
    assert read_header(path) == Header(4, 3, 1)


def test_a_compression_without_a_decoder_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, syntax=HTJ2KLossless, PixelData=encapsulate([b"\xff\x4f" * 20]))
    fault = fault_of(path)
    assert fault.kind == "image-mode" and "Throughput" in fault.what and "gdcmconv --raw" in fault.fix


def test_a_deflated_file_is_refused_before_it_is_inflated_with_the_lines_that_save_it_plainly(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, syntax=DeflatedExplicitVRLittleEndian, **CT)
    fault = fault_of(path, HOUNSFIELD)
    assert fault.kind == "image-mode" and "deflated" in fault.what
    assert not missing(fault.fix, "TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian", "save_as")
    assert read_header(path) is None
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "new.dcm")
    assert grey_of(tmp_path / "new.dcm", HOUNSFIELD) == [[0, 124, 252]] * 2


def encoded(syntax: str, side: int) -> bytes:
    """A white picture, compressed."""
    if syntax == RLELossless:
        runs, rest = divmod(side * side, 128)
        segment = b"\x81\xff" * runs + (bytes([257 - rest, 255]) if rest else b"")
        return struct.pack("<16L", 1, 64, *[0] * 14) + segment
    file = io.BytesIO()
    form, options = ("JPEG", {}) if syntax == JPEGBaseline8Bit else ("JPEG2000", {"no_jp2": True})
    Image.new("L", (side, side), 255).save(file, form, **options)
    return file.getvalue()


def write_encoded(path: Path, syntax: str, **elements: Any) -> Path:
    return write_dicom(path, np.zeros((8, 8), np.uint8), syntax=syntax, **elements)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless])
def test_a_compressed_picture_larger_than_stated_is_refused_before_it_is_unpacked(
    syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_encoded(tmp_path / "a.dcm", syntax, PixelData=encapsulate([encoded(syntax, 8)]))
    assert (load_image(path, NOTHING_STATED).pixels == 255).all()
    path = write_encoded(path, syntax, PixelData=encapsulate([encoded(syntax, 80)]))
    for owner, name in ((ImageFile.ImageFile, "load"), (pydicom.Dataset, "convert_pixel_data")):
        monkeypatch.setattr(owner, name, lambda *_: pytest.fail("it was unpacked"))
    fault = fault_of(path)
    assert fault.kind == "image-damaged" and not missing(fault.what, "compressed picture", "8x8")
    assert read_header(path) == Header(8, 8, 1)


def test_what_is_no_compressed_picture_is_damaged(tmp_path: Path) -> None:
    path = write_encoded(tmp_path / "a.dcm", JPEGBaseline8Bit, PixelData=encapsulate([b"nothing of the kind"]))
    assert fault_of(path).kind == "image-damaged"


def test_a_compressed_picture_may_lie_in_several_parts_or_have_a_table_of_offsets(tmp_path: Path) -> None:
    frame = encoded(JPEGBaseline8Bit, 8)
    parts = encapsulate([frame], fragments_per_frame=3)
    in_parts = write_encoded(tmp_path / "a.dcm", JPEGBaseline8Bit, PixelData=parts)
    for path in (in_parts, _with_offsets(tmp_path / "b.dcm", [frame])):
        assert (load_image(path, NOTHING_STATED).pixels == 255).all()


def _with_offsets(path: Path, frames: list[bytes]) -> Path:
    data, offsets, lengths = encapsulate_extended(frames)
    tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    return write_encoded(path, JPEGBaseline8Bit, PixelData=data, **tables)


def test_several_pictures_without_their_number_are_refused(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "a.dcm", STORED, PixelData=STORED.tobytes() * 2)
    colors = np.zeros((2, 2, 3), np.uint8)
    colored = write_dicom(tmp_path / "b.dcm", colors, PixelData=colors.tobytes() * 2)
    frame = encoded(JPEGBaseline8Bit, 8)
    packed = write_encoded(tmp_path / "c.dcm", JPEGBaseline8Bit, PixelData=encapsulate([frame, frame]))
    for path in (plain, colored, packed, _with_offsets(tmp_path / "d.dcm", [frame, frame])):
        fault = fault_of(path, HOUNSFIELD)
        assert fault.kind == "image-mode" and "pictures" in fault.what and "pixel_array[NUMBER]" in fault.fix
    assert "2 pictures" in fault_of(plain, HOUNSFIELD).what


@pytest.mark.parametrize(("samples", "photometric"), [(3, "MONOCHROME2"), (1, "RGB")])
def test_values_that_are_not_of_the_stated_colours_are_damaged(samples: int, photometric: str, tmp_path: Path) -> None:
    values = np.zeros((2, 2, samples), np.uint8).squeeze()
    path = write_dicom(tmp_path / "a.dcm", values, PhotometricInterpretation=photometric)
    assert fault_of(path).kind == "image-damaged"


def test_one_under_another_name_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.png", STORED)
    fault = fault_of(path)
    assert fault.kind == "not-an-image" and "NAME.dcm" in fault.fix


def test_what_is_no_dicom_file_or_has_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"nothing of the kind")
    assert fault_of(tmp_path / "a.dcm").kind == "image-damaged"
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM")
    fault = fault_of(tmp_path / "b.dcm")
    assert fault.kind == "not-an-image" and "without a picture" in fault.what
    assert read_header(tmp_path / "a.dcm") is None and read_header(tmp_path / "b.dcm") is None


def test_a_cut_or_changed_file_is_a_fault_and_never_another_error(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, **CT)
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for end in range(0, len(content), 41):
            path.write_bytes(content[:end])
            assert fault_of(path, HOUNSFIELD).kind in {"image-damaged", "not-an-image"}
        for place in range(128, len(content), 5):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
            reading = read_labelled_image(path, HOUNSFIELD)
            assert (reading.pixels is None) <= bool(reading.faults)
            assert isinstance(read_header(path), Header | None)


def _part(**elements: Any) -> Sequence:
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


def test_an_enhanced_file_of_one_frame_has_slope_and_window_in_its_groups(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "plain.dcm", STORED, **CT)
    groups = _part(
        PixelValueTransformationSequence=_part(**CT), FrameVOILUTSequence=_part(WindowCenter=40, WindowWidth=400)
    )
    enhanced = write_dicom(tmp_path / "a.dcm", STORED, SharedFunctionalGroupsSequence=groups, NumberOfFrames=1)
    assert grey_of(enhanced, HOUNSFIELD) == grey_of(plain, HOUNSFIELD)
    assert "window" in load_image(enhanced, NOTHING_STATED).notes[0]
