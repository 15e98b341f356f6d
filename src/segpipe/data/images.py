"""Reads one image or mask from a file, or says exactly what is wrong with it.

Pillow reads here, not OpenCV: OpenCV gives a truncated JPEG as grey, a 16-bit mask as zeros and a palette mask as
colours, all without an error.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.errors import SegpipeError

IMAGE_MODES = frozenset({"RGB", "RGBA", "L", "LA", "P", "1", "CMYK"})
MASK_MODES = frozenset({"L", "P", "1"})
MASK_MODES_16_BIT = frozenset({"I;16", "I;16B", "I;16L", "I"})
MAX_VALUES_SHOWN = 8
BITS_OF_CHANNEL = 8
EXIF_ORIENTATION, UPRIGHT = 0x0112, 1


class ImageFileError(SegpipeError):
    """A file that is no usable image or mask.

    Args:
        kind: short name of the sort of problem.
        what: what is wrong.
        mend: what to do.
    """

    def __init__(self, kind: str, what: str, mend: str) -> None:
        super().__init__(f"{what}. {mend}")
        self.kind, self.what, self.mend = kind, what, mend


def _open(path: Path) -> tuple[Image.Image, int]:
    """Decodes a file; gives the picture and its bits a channel."""
    try:
        with Image.open(path) as image:
            bits = _bits_of_channel(image)
            orientation = image.getexif().get(EXIF_ORIENTATION, UPRIGHT)
            image.load()
    except UnidentifiedImageError as error:
        raise ImageFileError("not-an-image", "is not an image", "Replace or remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageFileError("image-damaged", f"cannot be decoded: {error}", "Replace it by an intact copy") from error
    if orientation != UPRIGHT:
        # Its pixels lie turned on disk, and no one knows whether its mask was drawn on the turned or the upright image.
        raise ImageFileError("image-turned", "is turned by an EXIF entry", "Save it upright, as its mask is")
    return image, bits


def _bits_of_channel(image: ImageFile.ImageFile) -> int:
    """Finds the depth in what the decoder is asked for, 'RGB;16B' or 'L;4': the mode does not tell."""
    raw_modes = [tile.args if isinstance(tile.args, str) else str((tile.args or [""])[0]) for tile in image.tile]
    depths = [re.search(r";(\d+)", raw_mode) for raw_mode in raw_modes]
    return max((int(depth.group(1)) for depth in depths if depth), default=BITS_OF_CHANNEL)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Reads a photograph.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        ImageFileError: no image, truncated, or more than 8 bits a channel.
    """
    image, bits = _open(path)
    # Pillow would halve the depth of a 16-bit colour image without a word.
    if image.mode not in IMAGE_MODES or bits > BITS_OF_CHANNEL:
        what = f"has pixels of mode {image.mode}, {bits} bits a channel"
        raise ImageFileError("image-mode", what, "Convert it to 8 bits a channel")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path, classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Reads a mask and maps the source's values to class indices.

    Returns:
        (height, width) uint8: class indices, void = `IGNORE_INDEX`.

    Raises:
        ImageFileError: no image, truncated, colours instead of indices, or values outside the class table.
    """
    image, bits = _open(path)
    if image.mode in MASK_MODES_16_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > IGNORE_INDEX:
            what = f"holds 16-bit values {values.min()}..{values.max()}"
            raise ImageFileError("mask-values", what, f"A mask's values are 0..{IGNORE_INDEX}")
        values = values.astype(np.uint8)
    elif image.mode in MASK_MODES:
        values = np.asarray(image, np.uint8)
        if image.mode == "L" and bits < BITS_OF_CHANNEL:
            values = values // (255 // (2**bits - 1))  # Pillow spreads the values of 2 and 4 bits over 0..255
    else:
        what = f"holds colours (mode {image.mode}), not class indices"
        raise ImageFileError("mask-mode", what, "Save one channel of class indices (a palette is welcome)")
    indices = classes.index_lookup()[values]
    if (indices < 0).any():
        wrong = np.unique(values[indices < 0])
        shown = ", ".join(map(str, wrong[:MAX_VALUES_SHOWN])) + (", ..." if len(wrong) > MAX_VALUES_SHOWN else "")
        num_px = int((indices < 0).sum())
        void = ", ".join(map(str, classes.void_values))
        what = f"holds values outside the class table: {shown} ({num_px} px)"
        raise ImageFileError("mask-values", what, f"Known are 0..{classes.num_classes - 1} and void {void}")
    return np.asarray(indices, np.uint8)
