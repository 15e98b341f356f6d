"""Makes 8-bit RGB of an image file: the one decision for the doctor, preprocess, predict and the service."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segpipe.data.images.decoding import (
    BITS_OF_CHANNEL,
    UPRIGHT,
    ImageFileError,
    decode,
    num_pages_of,
    orientation_of,
)
from segpipe.documents import ImageMapping
from segpipe.faults import Fault, Reading

IMAGE_MODES = frozenset({"RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr"})
# Pillow holds 4 bytes a pixel and needs 6 more to give all of them at once; a band of rows keeps it at 7.
BAND_PX = 4_000_000


@dataclass(frozen=True)
class Picture:
    """An image as a network sees it.

    Attributes:
        pixels: (height, width, 3) uint8 RGB; of a grey image the three are equal.
        notes: what was done to the file's values, where that was not plain: 'turned upright by EXIF',
            'transparency composed on white', 'bands 1, 2, 3 of 4'.
    """

    pixels: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def read_labelled_image(path: Path, mapping: ImageMapping, mask_size_hw: tuple[int, int] | None = None) -> Reading:
    """Reads a photograph; grey becomes RGB.

    Args:
        path: of the file.
        mapping: how its values become 8-bit RGB.
        mask_size_hw: of its mask, in px. If an EXIF entry turns the image by a quarter, this tells whether the mask was
            drawn on the upright or on the stored image, and the image is given in that form. Otherwise a turned image
            is a fault.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    try:
        image, bits = decode(path)
    except ImageFileError as error:
        return Reading(None, (error.fault,))
    if num_pages_of(image) > 1:
        what = f"holds {num_pages_of(image)} pages"
        return Reading(None, (Fault("image-mode", what, "Save the one that belongs to the mask as a file of its own"),))
    # Pillow would reduce a 16-bit colour image to 8 bits without a warning.
    if image.mode not in IMAGE_MODES or bits > BITS_OF_CHANNEL:
        what = f"has pixels of mode {image.mode}, {bits} bits a channel"
        return Reading(None, (Fault("image-mode", what, "Convert it to 8 bits a channel"),))
    orientation = orientation_of(image)
    if orientation == UPRIGHT:
        return Reading(_rgb(image))
    if image.format == "TIFF":
        what = f"is turned by an entry (orientation {orientation}), which programs read differently"
        return Reading(None, (Fault("image-turned", what, "Save it upright, as its mask is, without the entry"),))
    upright = ImageOps.exif_transpose(image)
    stored_hw, upright_hw = (image.height, image.width), (upright.height, upright.width)
    what = f"is turned by an EXIF entry (orientation {orientation}), its mask is not"
    if stored_hw == upright_hw or mask_size_hw not in {stored_hw, upright_hw}:
        return Reading(None, (Fault("image-turned", what, "Save it upright, as its mask is"),))
    is_upright = mask_size_hw == upright_hw
    fix = f"Save it as its mask is, {'upright' if is_upright else 'with the entry removed'}"
    return Reading(_rgb(upright if is_upright else image), (Fault("image-turned", what, fix, is_fixed=True),))


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.width * image.height <= BAND_PX:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # which would copy
    # Pillow holds 4 bytes a pixel, and needs 6 more to give all of them at once.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    num_rows = max(1, BAND_PX // image.width)
    for top in range(0, image.height, num_rows):
        band = image.crop((0, top, image.width, min(top + num_rows, image.height)))
        pixels[top : top + num_rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def load_image(path: Path, mapping: ImageMapping) -> Picture:
    """Reads an image without a mask, which must be usable.

    Args:
        path: of the file.
        mapping: how its values become 8-bit RGB; of a model, `Network.image_mapping`.

    Raises:
        ImageFileError: it is not usable; says why, and what to do.
        OSError: the system cannot read it.
    """
    reading = read_labelled_image(path, mapping)
    if reading.pixels is None:
        raise ImageFileError(reading.faults[0])
    return Picture(reading.pixels)
