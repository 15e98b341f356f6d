"""Makes 8-bit RGB of an image file: the one decision for the doctor, preprocess, predict and the service."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.data.images.bands import (
    BYTE,
    Bands,
    Mapped,
    bands_of_tiff,
    choose_bands,
    compose,
    deep_values,
    map_bands,
    note_of_background,
    read_array,
    read_medical,
)
from segpipe.data.images.decoding import (
    BITS_OF_CHANNEL,
    IMAGE_FORMATS,
    UPRIGHT,
    ImageFileError,
    decode,
    named_as_damaged,
    num_pages_of,
    orientation_of,
)
from segpipe.data.images.formats import ARRAY_SUFFIX, DICOM_SUFFIXES, NIFTI_SUFFIXES, suffix_of, why_unread
from segpipe.data.images.georeference import Georeference, find_georeference
from segpipe.data.images.tiff import GeoValue, TiffError, TiffLayout, read_layout
from segpipe.documents import ImageMapping
from segpipe.faults import Fault, Reading

GREY_MODES = frozenset({"L", "LA", "La", "1"})
ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
IMAGE_MODES = GREY_MODES | ALPHA_MODES | {"RGB", "P", "CMYK", "YCbCr"}
DEEP_MODES = frozenset({"I;16", "I;16B", "I;16L", "I", "F"})
# Pillow holds 4 bytes a pixel and needs 6 more to give all of them at once; a block of rows keeps it at 7.
BLOCK_PX = 4_000_000


@dataclass(frozen=True)
class Picture:
    """An image as a network sees it.

    Attributes:
        pixels: (height, width, 3) uint8 RGB; of a grey image the three are equal.
        notes: what was done to the file's values, where that was not plain: 'turned upright by EXIF',
            'transparency composed on white', 'bands 1, 2, 3 of 4'.
        georeference: where these pixels lie on the earth, of a GeoTIFF.
    """

    pixels: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    georeference: Georeference | None = None


@dataclass(frozen=True)
class _Stored:
    """An image as 8-bit RGB that is not turned yet.

    Args:
        mapped: its pixels.
        orientation: how the file says that it is to be turned.
        is_turned: whether Pillow has turned it already.
        geo_tags: of a GeoTIFF, where the stored pixels lie on the earth.
    """

    mapped: Mapped
    orientation: int
    is_turned: bool = False
    geo_tags: Mapping[int, GeoValue] = field(default_factory=dict)


def load_image(path: Path, mapping: ImageMapping) -> Picture:
    """Reads an image without a mask, which must be usable; one that an EXIF entry turns is given upright.

    Args:
        path: of the file.
        mapping: how its values become 8-bit RGB; of a model, `Network.image_mapping`.

    Raises:
        ImageFileError: it is not usable; says why, and what to do.
        OSError: the system cannot read it.
    """
    stored = _read(path, mapping)
    pixels, notes = stored.mapped.pixels, stored.mapped.notes
    if stored.orientation != UPRIGHT:
        pixels = pixels if stored.is_turned else turn(pixels, stored.orientation)
        notes = ("turned upright by EXIF", *notes)
    notes = (*notes, *(fault.what for fault in stored.mapped.faults if fault.kind != "image-bands"))
    georeference = find_georeference(stored.geo_tags) if stored.geo_tags else None
    if stored.geo_tags and georeference is None:
        notes = (*notes, "its georeference is damaged, so its mask has none")
    if georeference is not None and stored.orientation != UPRIGHT:
        georeference = georeference.turned(stored.orientation, (pixels.shape[0], pixels.shape[1]))
    return Picture(pixels, notes, georeference)


def read_labelled_image(path: Path, mapping: ImageMapping, mask_size_hw: tuple[int, int] | None = None) -> Reading:
    """Reads an image that has a mask.

    Args:
        path: of the file.
        mapping: how its values become 8-bit RGB.
        mask_size_hw: of its mask, in px; None if that cannot be read. If an EXIF entry turns the image by a quarter,
            this tells whether the mask was drawn on the upright or on the stored image, and the image is given in that
            form; the stored form is a fault, because a prediction is made upright. If the size does not tell it, the
            image is refused.

    Returns:
        (height, width, 3) uint8 RGB, and all that is wrong or doubtful.
    """
    try:
        stored = _read(path, mapping)
    except ImageFileError as error:
        return Reading(None, (error.fault,))
    pixels, faults, orientation = stored.mapped.pixels, stored.mapped.faults, stored.orientation
    if orientation == UPRIGHT:
        return Reading(pixels, faults)
    if stored.is_turned:
        what = f"is turned by an entry (orientation {orientation}), which programs read differently"
        fault = Fault("image-turned", what, "Save it upright, as its mask is, without the entry")
        return Reading(None, (*faults, fault))
    stored_hw = (pixels.shape[0], pixels.shape[1])
    upright_hw = stored_hw[::-1] if orientation >= 5 else stored_hw
    if mask_size_hw == upright_hw != stored_hw:
        return Reading(turn(pixels, orientation), faults)
    if mask_size_hw == stored_hw != upright_hw:
        what = f"is turned by an EXIF entry (orientation {orientation}), its mask is not"
        fault = Fault("image-turned", what, "Save it as its mask is, with the entry removed", is_fixed=True)
        return Reading(pixels, (*faults, fault))
    what = f"is turned by an EXIF entry (orientation {orientation}), and its mask's size does not tell its own turn"
    return Reading(None, (*faults, Fault("image-turned", what, "Save it as its mask is, with the entry removed")))


def turn(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turns a stored image upright.

    Args:
        pixels: (height, width, channels).
        orientation: of the EXIF standard, 1 to 8: 5 to 8 exchange height and width.
    """
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _read(path: Path, mapping: ImageMapping) -> _Stored:
    """Reads an image as it is stored.

    Raises:
        ImageFileError: it cannot be used.
    """
    path.stat()  # a file that is not there is the system's error, not a fault of the image
    if (reason := why_unread(path.name)) is not None:
        raise ImageFileError(Fault("not-an-image", *reason))
    if suffix_of(path.name) == ARRAY_SUFFIX:
        return _of_bands(read_array(path), mapping)
    if suffix_of(path.name) in DICOM_SUFFIXES | NIFTI_SUFFIXES:
        return _of_bands(read_medical(path), mapping)
    with named_as_damaged(path):
        layout = read_layout(path)
        if layout is not None and not layout.is_plain:
            return _of_tiff(path, layout, mapping)
    image, bits = decode(path, IMAGE_FORMATS)
    num_pages = num_pages_of(image) if layout is None else layout.num_pages
    _refuse_pages(num_pages)
    orientation = orientation_of(image)
    if image.mode in DEEP_MODES or bits > BITS_OF_CHANNEL:
        # A PGM's own values, which Pillow spreads over 16 bits, come from the other decoder too.
        values = deep_values(path, bits) if image.format in {"PNG", "PPM"} else None
        if values is None and image.mode in DEEP_MODES:
            values = np.asarray(image)[..., None]
        if values is None:
            what = f"has pixels of mode {image.mode}, {bits} bits a channel"
            raise ImageFileError(Fault("image-mode", what, "Save it as TIFF or PNG of 16 bits, or of 8 bits a channel"))
        num_bands = values.shape[2]
        alpha = num_bands - 1 if num_bands in {2, 4} else None
        return _of_bands(Bands(values, 3 if num_bands > 2 else 1, alpha, orientation=orientation), mapping)
    if image.mode not in IMAGE_MODES:
        what = f"has pixels of mode {image.mode}"
        raise ImageFileError(Fault("image-mode", what, "Save it as RGB of 8 bits a channel"))
    mapped = _map_image(image, mapping)
    if layout is None:
        return _Stored(mapped, orientation)
    return _Stored(mapped, orientation, is_turned=orientation != UPRIGHT, geo_tags=layout.geo_tags)


def _of_tiff(path: Path, layout: TiffLayout, mapping: ImageMapping) -> _Stored:
    _refuse_pages(layout.num_pages)
    try:
        return replace(_of_bands(bands_of_tiff(path, layout), mapping), geo_tags=layout.geo_tags)
    except TiffError as error:
        fix = "Save it as TIFF of 8 or 16 bits with deflate (`gdal_translate -co COMPRESS=DEFLATE`), or as .npy"
        raise ImageFileError(Fault("image-mode", str(error), fix)) from error


def _of_bands(bands: Bands, mapping: ImageMapping) -> _Stored:
    return _Stored(map_bands(bands, mapping), bands.orientation)


def _refuse_pages(num_pages: int) -> None:
    if num_pages > 1:
        fix = "Save the one that belongs to the mask, or is to be predicted, as a file of its own"
        raise ImageFileError(Fault("image-mode", f"holds {num_pages} pages", fix))


def _map_image(image: Image.Image, mapping: ImageMapping) -> Mapped:
    """Makes RGB of an image of 8-bit colours, block by block of rows."""
    has_alpha = image.mode in ALPHA_MODES or isinstance(image.info.get("transparency"), int | tuple | bytes)
    num_colors = 1 if image.mode in GREY_MODES else 3
    alpha = num_colors if has_alpha else None
    chosen, notes, _ = choose_bands(num_colors + has_alpha, num_colors, alpha, mapping)
    if not has_alpha and chosen in {(0,), (0, 1, 2)} and image.width * image.height <= BLOCK_PX:
        return Mapped(np.asarray(_converted(image, has_alpha)), notes)  # a copy would take longer than all the rest
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    num_hidden = 0
    num_rows = max(1, BLOCK_PX // image.width)
    for top in range(0, image.height, num_rows):
        rows = slice(top, min(top + num_rows, image.height))
        block = image if num_rows >= image.height else image.crop((0, top, image.width, rows.stop))
        values = np.asarray(_converted(block, has_alpha))
        if not has_alpha:
            pixels[rows] = values if chosen in {(0,), (0, 1, 2)} else values[..., list(chosen)]
            continue
        picked = [3 if band == num_colors else band for band in chosen]  # grey was made RGB, alpha is the fourth
        pixels[rows] = values[..., picked]
        num_hidden += int(np.count_nonzero(values[..., 3] != BYTE))
        if mapping.background is not None and num_colors not in chosen:
            compose(pixels[rows], values[..., 3:], mapping.background)
    if not num_hidden or num_colors in chosen:
        return Mapped(pixels, notes)
    if mapping.background is not None:
        return Mapped(pixels, (*notes, note_of_background(mapping.background)))
    what = f"has {num_hidden} px that are not opaque, whose hidden colours are used"
    fix = "Write `download.images.background: [255, 255, 255]` in params.yaml, or save it without transparency"
    return Mapped(pixels, notes, (Fault("image-transparent", what, fix),))


def _converted(image: Image.Image, has_alpha: bool) -> Image.Image:
    if not has_alpha:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode in {"La", "RGBa"}:
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    return image if image.mode == "RGBA" else image.convert("RGBA")
