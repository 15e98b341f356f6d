"""Reads one picture of a DICOM file (PS3.3 of the standard), by pydicom: its values as the device means them."""

import contextlib
import io
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segpipe.data.images.formats import KindError

MONOCHROME, INVERTED, PALETTE = ("MONOCHROME1", "MONOCHROME2"), "MONOCHROME1", "PALETTE COLOR"
COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom gives all as RGB
WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT")  # the others are curves
SIZE_TAGS = ["Rows", "Columns", "BitsAllocated"]  # of what is read without the pixels
BYTE_BITS, RESCALED_BYTES = 8, 4  # values of 16 bits are held as 32 bits
MAX_WHOLE_SLOPE = 1 << 14  # of values of 16 bits: the product has 32 bits
OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")  # where the compressed pictures begin
JPEG_FORMATS = ("JPEG", "JPEG2000")  # that pydicom unpacks by Pillow
MAX_RLE_SEGMENTS, MAX_RLE_PADDING = 15, 2  # a segment may hold twice what is used of it


@dataclass(frozen=True)
class DicomPicture:
    """The content of a file.

    Attributes:
        values: (height, width, 1), of the unit that the file states, such as Hounsfield; or (height, width, 3) RGB.
        window: the values that a viewer shows as black and white at first; None if the file does not state them.
        is_inverted: whether the lowest value is white.
    """

    values: npt.NDArray[Any]
    window: tuple[float, float] | None = None
    is_inverted: bool = False


def measure_dicom(path: Path) -> tuple[int, int, int]:
    """Reads height and width in px, and the bytes that a pixel takes while it is read; 1 for 8-bit colours.

    Raises:
        KindError: it holds no picture.
        ValueError and others: it is damaged.
    """
    with _named_as_damaged():
        dataset = _open(path, stop_before_pixels=True, specific_tags=SIZE_TAGS)
        return *_size_of(dataset), 1 if dataset.get("BitsAllocated") == BYTE_BITS else RESCALED_BYTES


def read_dicom(path: Path) -> DicomPicture:
    """Reads the only picture of a file.

    Raises:
        KindError: it holds none or several, or is of a kind that is not read.
        ValueError and others: it is damaged.
    """
    with _named_as_damaged():
        return _picture_of(_open(path))


def _picture_of(dataset: Any) -> DicomPicture:
    from pydicom.pixels import apply_color_lut

    size = _size_of(dataset)
    _refuse_unread(dataset)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    stored = _stored_of(dataset, (*size, 3) if photometric in COLORS else size)
    if photometric in COLORS:
        return DicomPicture(stored)
    if photometric == PALETTE:
        colors = apply_color_lut(stored, dataset)
        return DicomPicture(colors if colors.dtype == np.uint8 else (colors >> 8).astype(np.uint8))
    return DicomPicture(_rescale(stored, dataset)[..., None], _window_of(dataset), photometric == INVERTED)


def _stored_of(dataset: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Unpacks the only picture.

    Raises:
        KindError: there are several.
        ValueError and others: it has another shape, or is damaged.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _refuse_false_size(_isolate_frame(dataset), syntax, shape)
    stored: npt.NDArray[Any] = dataset.pixel_array
    if stored.shape[1:] == shape:  # pydicom gives all that the values suffice for
        raise _several(len(stored))
    if stored.shape != shape:
        raise ValueError(f"its values have the shape {stored.shape}, and it states {shape}")
    return stored


def _isolate_frame(dataset: Any) -> bytes:
    """Gives the only compressed picture; the data set then holds nothing else that pydicom could unpack.

    Raises:
        KindError: there are several.
    """
    from pydicom.encaps import encapsulate, generate_frames

    offsets = tuple(dataset.pop(name).value for name in OFFSETS if name in dataset)
    table = offsets if len(offsets) == len(OFFSETS) else None
    frames = generate_frames(dataset.PixelData, number_of_frames=1, extended_offsets=table)
    found: list[bytes] = list(itertools.islice(frames, 2))  # a false table may name any number
    if len(found) > 1:
        raise _several(None)
    dataset.PixelData = encapsulate(found, has_bot=False)
    return found[0]


def _refuse_false_size(frame: bytes, syntax: str, shape: tuple[int, ...]) -> None:
    """Refuses a compressed picture of another size than the file states, before memory is taken for it.

    Raises:
        ValueError: it is.
    """
    from pydicom.uid import RLELossless

    height, width = shape[:2]
    if syntax == RLELossless:
        if any(_unpacked_bytes(segment) > MAX_RLE_PADDING * height * width for segment in _segments_of(frame)):
            raise ValueError(f"its compressed picture is larger than the stated {width}x{height} px")
        return
    try:
        with Image.open(io.BytesIO(frame), formats=JPEG_FORMATS) as image:
            size = image.size
    except UnidentifiedImageError as error:
        raise ValueError("its compressed picture is no JPEG") from error
    if size != (width, height):
        raise ValueError(f"its compressed picture has {size[0]}x{size[1]} px, and it states {width}x{height}")


def _segments_of(frame: bytes) -> list[bytes]:
    """Divides a run-length coded picture (PS3.5, G.5).

    Raises:
        ValueError: the same bytes would be read several times.
    """
    num_segments, *offsets = struct.unpack_from(f"<{MAX_RLE_SEGMENTS + 1}L", frame)
    places = [*offsets[:num_segments], len(frame)]
    if places != sorted(places):
        raise ValueError("the parts of its compressed picture are out of order")
    return [frame[start:end] for start, end in itertools.pairwise(places)]


def _unpacked_bytes(segment: bytes) -> int:
    """Counts what a run-length coded segment unpacks to (PS3.5, G.3.1)."""
    num_bytes = place = 0
    while place < len(segment):
        header = segment[place]
        if header < 128:  # so many and one more follow
            num_bytes += header + 1
            place += header + 2
        elif header > 128:  # one follows, which is repeated
            num_bytes += 257 - header
            place += 2
        else:
            place += 1
    return num_bytes


def _several(num_pictures: int | None) -> KindError:
    fix = "Save each one that is wanted: `numpy.save('NAME.npy', pydicom.dcmread('FILE').pixel_array[NUMBER])`"
    return KindError(f"is a DICOM file of {num_pictures or 'several'} pictures", fix)


def _rescale(stored: npt.NDArray[Any], dataset: Any) -> npt.NDArray[Any]:
    """Gives values of the stated unit, slope * stored + intercept (PS3.3, C.11.1.1.2); whole ones stay whole."""
    from pydicom.pixels import apply_modality_lut

    if "ModalityLUTSequence" in dataset:
        looked_up: npt.NDArray[Any] = apply_modality_lut(stored, dataset)
        return looked_up
    dataset = _group_of(dataset, "PixelValueTransformationSequence")
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    if (slope, intercept) == (1, 0):
        return stored
    if stored.itemsize > 2:
        return stored * slope + intercept
    if slope.is_integer() and intercept.is_integer() and max(abs(slope), abs(intercept)) < MAX_WHOLE_SLOPE:
        return stored.astype(np.int32) * int(slope) + int(intercept)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _group_of(dataset: Any, name: str) -> Any:
    """Gives the part of an enhanced file that holds what others hold themselves (PS3.3, C.7.6.16)."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        if dataset.get(groups) and dataset.get(groups)[0].get(name):
            return dataset.get(groups)[0].get(name)[0]
    return dataset


@contextlib.contextmanager
def _named_as_damaged() -> Iterator[None]:
    """Turns pydicom's own errors, which are plain exceptions, into a ValueError."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except (BytesLengthException, InvalidDicomError) as error:
        raise ValueError("it is no DICOM file, or it is damaged") from error


def _open(path: Path, **options: Any) -> Any:
    """Gives pydicom's data set.

    Raises:
        KindError: it is deflated: pydicom would inflate all of it, whatever its size.
    """
    import pydicom
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        plain = "d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian"
        fix = f"Save it plainly: `d = pydicom.dcmread('FILE'); {plain}; d.save_as('NEW.dcm')`"
        raise KindError("is a DICOM file that is deflated as a whole, which is not read", fix)
    return pydicom.dcmread(path, **options)


def _size_of(dataset: Any) -> tuple[int, int]:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns:
        raise KindError("is a DICOM file without a picture", "Replace or remove it", "not-an-image")
    return int(rows), int(columns)


def _refuse_unread(dataset: Any) -> None:
    """Refuses what is not one picture that can be decoded.

    Raises:
        KindError: it is.
    """
    from pydicom.pixels import get_decoder

    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames > 1:
        raise _several(num_frames)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in (*MONOCHROME, *COLORS, PALETTE):
        raise KindError(f"is a DICOM file of {photometric or 'unstated'} values, which are not read", "Save it as PNG")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        what = f"is a DICOM file in a compression that pydicom alone does not read: {syntax.name}"
        raise KindError(what, "Save it without compression: `gdcmconv --raw FILE NEW.dcm`, a program of GDCM")


def _window_of(dataset: Any) -> tuple[float, float] | None:
    """Gives the first window; equations of PS3.3, C.11.2.1.2 and C.11.2.1.3.2."""
    dataset = _group_of(dataset, "FrameVOILUTSequence")
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or WINDOW_FUNCTIONS[0])
    if center is None or width is None or width <= 1 or function not in WINDOW_FUNCTIONS:
        return None
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return center - width / 2, center + width / 2


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, int | float) else float(value[0])
