"""Decodes an image file as it is stored, or says exactly what is wrong with it.

Pillow is used, not OpenCV: OpenCV reads a truncated JPEG as grey, a 16-bit mask as zeros and a palette mask as colours,
all without an error. But Pillow does not check the checksums of a PNG's pixels, so a flipped byte would change a mask
without an error. They are checked here.
"""

import contextlib
import errno
import re
import struct
import tokenize
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from segpipe.data.images.dicom import measure_dicom
from segpipe.data.images.formats import (
    ARRAY_SUFFIX,
    DICOM_SUFFIXES,
    HAS_DICOM,
    HAS_HEIF,
    HAS_NIFTI,
    NIFTI_SUFFIXES,
    suffix_of,
)
from segpipe.data.images.nifti import measure_nifti
from segpipe.data.images.tiff import read_layout
from segpipe.errors import SegpipeError
from segpipe.faults import Fault

# Other formats that Pillow reads run programs (EPS), or hold several pictures (ICO, PSD).
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# Of images only: masks are never stored so. HEIF where pillow-heif is installed.
IMAGE_FORMATS = (*FORMATS, "AVIF", "JPEG2000", *(("HEIF",) if HAS_HEIF else ()))
PHOTO_WITH_EXTRAS = "MPO"  # a JPEG of a phone: further frames are previews or depth
BEGINNINGS = {
    b"version https://git-lfs": ("is a pointer of Git LFS, not the picture", "Run `git lfs pull`"),
    b"<!doctype html": ("is a web page", "The server sent a page instead of the picture; fetch it again"),
    b"<html": ("is a web page", "The server sent a page instead of the picture; fetch it again"),
    b"%pdf": ("is a PDF", "Save the picture as PNG"),
    b"%!ps": ("is a PostScript file", "Save the picture as PNG"),
    b"8bps": ("is a Photoshop file", "Save the picture as PNG"),
    b"pk\x03\x04": ("is an archive", "Unpack it"),
    b"\x93numpy": ("is a NumPy array", "Save the picture as PNG, or name an image's array NAME.npy"),
    b"\x00\x00\x00\x0cjp  ": (
        "is a JPEG 2000 picture, or a part of one",
        "Save it as PNG",
    ),
    b"\xff\x6f\xff\x71": ("is a JPEG 2000 picture, or a part of one", "Save it as PNG"),
    b"": ("is not an image, or its beginning is damaged", f"Replace or remove it; formats: {', '.join(FORMATS)}"),
}

BITS_OF_CHANNEL, BYTE, MAX_OF_16_BITS = 8, 255, 65535
EXIF_ORIENTATION, UPRIGHT = 0x0112, 1

# Pillow's own limit stops at 0.18 Gpx and warns from 0.09. Reading takes 7 bytes a pixel, the image that is read 3.
MAX_IMAGE_PX = 400_000_000
# Deflate packs at most 1032 : 1; other compressions, such as Group 4 and lossless WebP, have no such limit.
MAX_PACKING, NUM_PX_BELOW_SUSPICION, NUM_PX_BELOW_SUSPICION_OF_PNG = 1100, 64_000_000, 16_000_000
Image.MAX_IMAGE_PIXELS = None
if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()


# None is Pillow's own; the others come from an impossible offset in the file.
ERRNOS_OF_BROKEN_FILE = {None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG}
# All that Pillow raises on files that are not what they claim.
BROKEN_FILE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, TypeError, ZeroDivisionError,
    AttributeError, RuntimeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip


class ImageFileError(SegpipeError):
    """A file that is no usable image.

    Args:
        fault: what is wrong with it.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.what}. {fault.fix}")
        self.fault = fault


@contextlib.contextmanager
def named_as_damaged(path: Path) -> Iterator[None]:
    """Names what a decoder raises on a file that is not what it claims.

    Raises:
        ImageFileError: in place of it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about metadata do not matter for pixels
            yield
    except UnidentifiedImageError as error:
        raise ImageFileError(_name_non_image(path)) from error
    except (*BROKEN_FILE, MemoryError) as error:
        if isinstance(error, OSError) and error.errno not in ERRNOS_OF_BROKEN_FILE:
            raise  # the system's: no such file, no permission
        what = f"cannot be decoded: {error}"
        raise ImageFileError(Fault("image-damaged", what, "Replace it by an intact copy")) from error


def decode(path: Path, formats: tuple[str, ...] = FORMATS) -> tuple[Image.Image, int]:
    """Decodes a file.

    Args:
        path: of the file.
        formats: that it may have; for masks the default.

    Returns:
        The picture as it is stored, and its bits a channel.

    Raises:
        ImageFileError: not an image, damaged, or too large.
    """
    with named_as_damaged(path):
        return _load(path, formats)


def _load(path: Path, formats: tuple[str, ...]) -> tuple[Image.Image, int]:
    with Image.open(path, formats=formats) as image:
        _refuse_too_large(image, path.stat().st_size)
        bits = _bits_of_channel(image)
        num_pages = 1 if image.format == PHOTO_WITH_EXTRAS else getattr(image, "n_frames", 1)
        # Loading turns a TIFF and deletes the entry; of a PNG, the entry may be known only after loading.
        orientation = _read_orientation(image) if image.format == "TIFF" else None
        is_spread = image.format == "PPM" and not _maxima(image) <= {BYTE, MAX_OF_16_BITS}
        image.load()
        image.info["num_pages"] = num_pages
        image.info["is_spread"] = is_spread
        image.info["orientation"] = _read_orientation(image) if orientation is None else orientation
    if image.format == "PNG":
        with Image.open(path, formats=("PNG",)) as again:
            again.verify()
    return image, bits


def num_pages_of(image: Image.Image) -> int:
    """Tells how many pictures the file of a decoded picture holds; only the first was read."""
    return int(image.info.get("num_pages", 1))


def is_spread(image: Image.Image) -> bool:
    """Tells whether the decoder multiplied the values, so that the greatest of a PGM's own became white."""
    return bool(image.info.get("is_spread", False))


def is_lossy(image: Image.Image, path: Path) -> bool:
    """Tells whether the file of a decoded picture was compressed in a way that changes values."""
    if image.format == "TIFF":
        return image.info.get("compression") in {"jpeg", "webp"}
    if image.format == "WEBP":
        with path.open("rb") as file:
            return b"VP8 " in file.read(64)  # without loss it is VP8L
    return image.format in {"JPEG", PHOTO_WITH_EXTRAS}


def _name_non_image(path: Path) -> Fault:
    with path.open("rb") as file:
        beginning = file.read(132).lower()
    if not beginning:
        return Fault("not-an-image", "is empty", "Replace or remove it")
    if beginning[4:8] == b"ftyp":
        kind = {b"avif": "an AVIF picture", b"avis": "an AVIF picture", b"heic": "a HEIC picture"}.get(beginning[8:12])
        return Fault("not-an-image", f"is {kind or 'a video or a HEIC picture'}, or a part of one", "Save it as PNG")
    if beginning[128:] == b"dicm":
        return Fault("not-an-image", "is a DICOM file", "Name an image so: NAME.dcm. Save a mask as PNG")
    if suffix_of(path.name) in NIFTI_SUFFIXES:  # an image of this name never comes here
        return Fault("not-an-image", "is a mask in a NIfTI file, which is read for images only", "Save it as PNG")
    what, fix = next(texts for start, texts in BEGINNINGS.items() if beginning.startswith(start))
    return Fault("not-an-image", what, fix)


def _refuse_too_large(image: ImageFile.ImageFile, num_bytes: int) -> None:
    num_px = image.width * image.height
    if num_px > MAX_IMAGE_PX:
        what = f"has {image.width}x{image.height} px, more than {MAX_IMAGE_PX // 10**6} million"
        raise ImageFileError(Fault("image-too-large", what, "Cut it into parts"))
    # No memory may be allocated for a false size in a header.
    bits = 1 if image.mode == "1" else _bits_of_channel(image)
    is_png = image.format == "PNG"
    believed_px = NUM_PX_BELOW_SUSPICION_OF_PNG if is_png else NUM_PX_BELOW_SUSPICION
    if num_px <= max(believed_px, MAX_PACKING * num_bytes * BITS_OF_CHANNEL // bits):
        return
    if is_png:
        what = f"claims {image.width}x{image.height} px, which its {num_bytes} bytes cannot hold"
        raise ImageFileError(Fault("image-too-large", what, "Replace it by an intact copy"))
    what = f"claims {image.width}x{image.height} px in {num_bytes} bytes, as a damaged header does"
    raise ImageFileError(
        Fault("image-too-large", what, "Replace it by an intact copy; if it is intact, save it as PNG")
    )


def _bits_of_channel(image: ImageFile.ImageFile) -> int:
    """Finds the depth in what the decoder is asked for, 'RGB;16B' or 'L;4': the mode does not say it."""
    if image.format == "PPM" and (maxima := _maxima(image)):
        return BITS_OF_CHANNEL if max(maxima) <= BYTE else 2 * BITS_OF_CHANNEL
    if image.format == "JPEG2000":
        return _bits_of_jpeg_2000(image)
    raw_modes = [tile.args if isinstance(tile.args, str) else str((tile.args or [""])[0]) for tile in image.tile]
    depths = [re.search(r";(\d+)", raw_mode) for raw_mode in raw_modes]
    return max((int(depth.group(1)) for depth in depths if depth), default=BITS_OF_CHANNEL)


def _maxima(image: ImageFile.ImageFile) -> set[int]:
    """Gives the value of white that the header of a PPM names, where the decoder is asked to spread others over it."""
    tiles = [tile.args for tile in image.tile if isinstance(tile.args, tuple) and len(tile.args) == 2]
    return {int(maximum) for _, maximum in tiles}


def _bits_of_jpeg_2000(image: ImageFile.ImageFile) -> int:
    """Finds the depth in the image header (ISO 15444-1, I.5.3.1) or the codestream (A.5.1)."""
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(0)
    beginning = image.fp.read(400)
    image.fp.seek(place)
    box, start = beginning.find(b"ihdr"), beginning.find(b"\xff\x51")
    depth = beginning[box + 14] if box >= 0 else beginning[start + 40]
    return (depth & 0x7F) + 1 if depth != 0xFF else BITS_OF_CHANNEL


@dataclass(frozen=True)
class Header:
    """What a file's header says of the pixels, as they are stored.

    Args:
        height: in px.
        width: in px.
        bytes_per_px: of deep values or many bands; 1 for 8-bit colours.
    """

    height: int
    width: int
    bytes_per_px: int = 1

    @property
    def reading_px(self) -> int:
        """What reading costs: the pixels of an 8-bit image that takes at least as much memory."""
        return self.height * self.width * self.bytes_per_px


def size_of_image(path: Path) -> tuple[int, int] | None:
    """Reads height and width in px from a file's header, as the pixels are stored; None if there is no header."""
    header = read_header(path)
    return None if header is None else (header.height, header.width)


def read_header(path: Path) -> Header | None:
    """Reads a file's header without its pixels; None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            suffix = suffix_of(path.name)
            if HAS_DICOM and suffix in DICOM_SUFFIXES:
                return Header(*measure_dicom(path))
            if HAS_NIFTI and suffix in NIFTI_SUFFIXES:
                return Header(*measure_nifti(path))
            if suffix == ARRAY_SUFFIX:
                array = open_array(path)
                height, width = array.shape[:2]
                num_bytes = array.nbytes // (height * width)
                return Header(height, width, 1 if array.dtype == np.uint8 and num_bytes <= 3 else num_bytes)
            if (layout := read_layout(path)) is not None:
                return Header(*layout.size_hw, 1 if layout.is_plain else layout.bytes_per_px)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                is_deep = _bits_of_channel(image) > BITS_OF_CHANNEL
                return Header(image.height, image.width, 2 * len(image.getbands()) if is_deep else 1)
    except BROKEN_FILE:
        return None


def open_array(path: Path) -> npt.NDArray[Any]:
    """Maps a NumPy array (.npy) to memory.

    Raises:
        ValueError: it is none, or damaged; other errors of `BROKEN_FILE` are possible too.
    """
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise ValueError("it is no array of NumPy")  # numpy.load would open archives and look for code
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except tokenize.TokenError as error:  # NumPy reads the header as Python's text
        raise ValueError("its header is damaged") from error
    return array


def orientation_of(image: Image.Image) -> int:
    """Tells how an EXIF entry turns the file of a decoded picture, 1 (not at all) to 8."""
    return int(image.info.get("orientation", UPRIGHT))


def _read_orientation(image: Image.Image) -> int:
    try:
        orientation = int(image.getexif().get(EXIF_ORIENTATION, UPRIGHT))
    except BROKEN_FILE:
        return UPRIGHT  # a broken entry turns nothing
    return orientation if orientation in range(1, 9) else UPRIGHT
