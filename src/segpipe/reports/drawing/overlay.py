"""Pictures of masks: over their image, or next to it."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX, ClassTable

OPACITY = 0.6

# Only runs of equal bytes are packed: a fifth of the time of deflate's usual level on an overlay, and files of about
# the same size (docs/performance.md).
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)

# Larger images are reduced for reports.
MAX_PANEL_PX = 2048 * 2048


def colorize(mask: npt.NDArray[np.uint8], classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Gives a (height, width) mask in the classes' colours, (height, width, 3) uint8; void is black."""
    # The same as color_lookup()[mask], in a fifth of the time.
    return np.asarray(cv2.applyColorMap(mask, classes.color_lookup()[:, None]), np.uint8)


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Gives a PNG of (height, width) values or (height, width, 3) RGB."""
    content = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    is_encoded, encoded = cv2.imencode(".png", content, PNG)
    assert is_encoded
    return encoded.tobytes()


def overlay(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Lays a mask's colours over its image; void shows the image unchanged.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8.
        classes: the classes with their colours.
    """
    colors = colorize(mask, classes)
    mixed = np.asarray(cv2.addWeighted(image, 1 - OPACITY, colors, OPACITY, 0, dst=colors), np.uint8)
    is_void = mask == IGNORE_INDEX
    if is_void.any():
        mixed[is_void] = image[is_void]
    return mixed


def side_by_side(
    image: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], classes: ClassTable
) -> npt.NDArray[np.uint8]:
    """Puts the image and each mask, in colours, in one row.

    Args:
        image: (height, width, 3) uint8 RGB.
        masks: each (height, width) uint8.
        classes: the classes with their colours.

    Returns:
        (height, (1 + num_masks) * width, 3) uint8. If the image has more than `MAX_PANEL_PX`, height and width are
        divided by the smallest integer that brings it below. A reduced pixel is then the mean of the image's pixels,
        and the middle one of the mask's pixels.
    """
    step = math.ceil(math.sqrt(image.shape[0] * image.shape[1] / MAX_PANEL_PX))
    if step > 1:
        size_wh = -(-image.shape[1] // step), -(-image.shape[0] // step)
        image = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        # Class indices have no mean. INTER_NEAREST_EXACT takes the middle pixel; INTER_NEAREST takes a corner.
        nearest = cv2.INTER_NEAREST_EXACT
        masks = [np.asarray(cv2.resize(mask, size_wh, interpolation=nearest), np.uint8) for mask in masks]
    return np.concatenate([image, *(colorize(mask, classes) for mask in masks)], axis=1)
