"""NIfTI files of one slice; nibabel writes them here."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from segpipe.data.images import Header, ImageFileError, is_picture_name, load_image, read_header, read_labelled_image
from segpipe.data.images.decoding import decode
from segpipe.documents import ImageMapping
from segpipe.faults import Fault

VALUES = np.arange(12, dtype=np.int16).reshape(3, 4) * 10  # height 3, width 4
RANGE = ImageMapping(range=(0, 255))


def write_nifti(path: Path, by_column: np.ndarray) -> Path:
    """Writes values whose first axis is the column."""
    nibabel.save(nibabel.Nifti1Image(by_column, np.eye(4)), path)
    return path


def fault_of(path: Path) -> Fault:
    with pytest.raises(ImageFileError) as caught:
        load_image(path, RANGE)
    assert read_labelled_image(path, RANGE).faults == (caught.value.fault,)
    return caught.value.fault


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (1, 4, 3), (4, 3, 1, 1)])
def test_the_second_axis_is_the_row(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / name, VALUES.T.reshape(shape))
    np.testing.assert_array_equal(load_image(path, RANGE).pixels, VALUES[..., None].repeat(3, axis=2))
    assert is_picture_name(name)
    assert read_header(path) == Header(3, 4, 2)


def test_the_files_scale_counts(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", VALUES.T)
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", 2.0, 5.0)  # scl_slope and scl_inter
    path.write_bytes(content)
    np.testing.assert_array_equal(load_image(path, RANGE).pixels[..., 0], 2 * VALUES + 5)
    assert read_header(path) == Header(3, 4, 8)


def test_deep_values_need_a_range_and_eight_bits_do_not(tmp_path: Path) -> None:
    deep = write_nifti(tmp_path / "a.nii", VALUES.T)
    with pytest.raises(ImageFileError, match=r"download.images.range: \[0, 1023\]"):
        load_image(deep, ImageMapping())
    plain = write_nifti(tmp_path / "b.nii", VALUES.T.astype(np.uint8))
    np.testing.assert_array_equal(load_image(plain, ImageMapping()).pixels[..., 2], VALUES)


def test_a_volume_is_refused_with_the_line_that_saves_a_slice(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 3, 5), np.uint8))
    fault = fault_of(path)
    assert fault.kind == "image-mode" and "4x3x5" in fault.what and "dataobj[:, :, NUMBER].T" in fault.fix
    assert read_header(path) is None


def write_extended(path: Path, *, claimed: int, start: int, num_bytes: int) -> Path:
    """Writes values behind an extension of the header.

    Args:
        path: of the file.
        claimed: size of the extension, as it says.
        start: where the values are, as the header says.
        num_bytes: of the extension, after its own 8.
    """
    content = bytearray(nibabel.Nifti1Image(VALUES.T, np.eye(4)).to_bytes())
    content[108:112] = struct.pack("<f", start)  # vox_offset
    extension = b"\x01\0\0\0" + struct.pack("<ii", claimed, 6) + bytes(num_bytes)
    path.write_bytes(gzip.compress(bytes(content[:348]) + extension + bytes(content[352:])))
    return path


def test_much_before_the_values_is_refused_with_the_line_that_saves_without(tmp_path: Path) -> None:
    path = write_extended(tmp_path / "a.nii.gz", claimed=20_000_000, start=20_000_352, num_bytes=20_000_000 - 8)
    fault = fault_of(path)
    assert fault.kind == "image-too-large" and "20000352 bytes" in fault.what and "nibabel.save" in fault.fix
    assert read_header(path) is None
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, image.affine), tmp_path / "new.nii.gz")
    np.testing.assert_array_equal(load_image(tmp_path / "new.nii.gz", RANGE).pixels[..., 0], VALUES)


@pytest.mark.parametrize("claimed", [32, 20_000_000, 0, -5])
def test_extensions_of_the_header_are_passed_over_whatever_they_claim(claimed: int, tmp_path: Path) -> None:
    path = write_extended(tmp_path / "a.nii.gz", claimed=claimed, start=352 + 32, num_bytes=24)
    with gzip.open(path, "ab") as file:
        file.write(bytes(20_000_000))  # an extension's size would have this read
    tracemalloc.start()
    pixels = load_image(path, RANGE).pixels
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(pixels[..., 0], VALUES)
    assert peak < 4_000_000


def test_a_mask_is_not_read_from_it(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", VALUES.T.astype(np.uint8))
    with pytest.raises(ImageFileError) as caught:
        decode(path)
    assert caught.value.fault.kind == "not-an-image" and "NIfTI" in caught.value.fault.what


def test_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    assert "complex64" in fault_of(write_nifti(tmp_path / "a.nii", np.zeros((4, 3), np.complex64))).what


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_cut_or_changed_file_is_a_fault_and_never_another_error(name: str, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / name, VALUES.T)
    content = path.read_bytes()
    for end in range(0, len(content) - 1, 23):
        path.write_bytes(content[:end])
        assert fault_of(path).kind in {"image-damaged", "image-mode"}
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        reading = read_labelled_image(path, RANGE)
        assert (reading.pixels is None) <= bool(reading.faults)
        assert isinstance(read_header(path), Header | None)
