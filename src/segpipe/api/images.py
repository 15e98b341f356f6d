"""Reads what a caller gives as an image: a path, a picture of Pillow, an array."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.data.images import ImageFileError, Picture, load_image
from segpipe.documents import ImageMapping
from segpipe.errors import PredictionError
from segpipe.serving.encoded import decode_image

FORMS = "give a path, a picture of Pillow, or an array (H, W, 3) uint8 RGB; several as a list or as (N, H, W, 3)"
PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def read_image(image: Any, mapping: ImageMapping, where: str) -> Picture:
    """Gives an image as the model's training images were read.

    Args:
        image: a path; a picture of Pillow, which is read as its file would be, EXIF's turn included; or (H, W, 3) uint8
            RGB, which is taken as it is.
        mapping: how the values of deep, transparent and many-band images become 8-bit RGB.
        where: names the image in messages, where it is no path.

    Raises:
        PredictionError: it cannot be read, or is no image.
    """
    if isinstance(image, np.ndarray):
        return Picture(check_pixels(image, 3, where))
    if not isinstance(image, str | Path | Image.Image):
        raise PredictionError(f"{where} is of type {type(image).__name__}; {FORMS}")
    try:
        if isinstance(image, Image.Image):
            return decode_image(_encode(image), mapping)
        return load_image(Path(image), mapping)
    except ImageFileError as error:
        raise PredictionError(f"{where if isinstance(image, Image.Image) else image}: {error}") from error
    except OSError as error:
        raise PredictionError(f"{image}: cannot be read: {error.strerror or error}") from error


def check_pixels(pixels: npt.NDArray[Any], num_axes: int, where: str) -> npt.NDArray[np.uint8]:
    """Checks an array of RGB pixels, and copies it where it is a view that torch does not take.

    Args:
        pixels: (H, W, 3), or (N, H, W, 3).
        num_axes: 3, or 4.
        where: names it in messages.

    Raises:
        PredictionError: it has another shape or type.
    """
    if pixels.ndim != num_axes or pixels.shape[-1] != 3 or 0 in pixels.shape[-3:]:
        raise PredictionError(f"{where} has the shape {pixels.shape}; {FORMS}")
    if pixels.dtype != np.uint8:
        fix = "write (255 * image).round().astype(np.uint8) for values of 0..1, image.astype(np.uint8) for 0..255"
        raise PredictionError(f"{where} is {pixels.dtype} where uint8 is needed; {fix}")
    return np.ascontiguousarray(pixels)


def _encode(image: Image.Image) -> bytes:
    """Gives the picture as a file without loss, with its EXIF entries."""
    content = io.BytesIO()
    if image.mode in PNG_MODES:
        image.save(content, "PNG", compress_level=0, exif=image.getexif())
    else:
        image.save(content, "TIFF")
    return content.getvalue()
