"""Pictures of what a network sees: image, truth and prediction side by side."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX, ClassTable

OPACITY = 0.6


def colorize(mask: npt.NDArray[np.uint8], classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Gives a (height, width) mask in the classes' colours, (height, width, 3) uint8; void is black."""
    return np.asarray(classes.color_lookup()[mask], np.uint8)


def overlay(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Lays a mask's colours over its image; void shows the image unchanged.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8.
        classes: gives the colours.
    """
    mixed = (1 - OPACITY) * image + OPACITY * colorize(mask, classes)
    return np.where((mask == IGNORE_INDEX)[..., None], image, mixed.round()).astype(np.uint8)


def side_by_side(
    image: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], classes: ClassTable
) -> npt.NDArray[np.uint8]:
    """Gives the image and each mask in colours in one row, (height, (1 + num_masks) * width, 3) uint8."""
    return np.concatenate([image, *(colorize(mask, classes) for mask in masks)], axis=1)


def evenly_spread(num_samples: int, num_chosen: int) -> list[int]:
    """Gives the indices of so many samples, evenly spread: always the same for the same split."""
    num_chosen = min(num_samples, num_chosen)
    return [(2 * i + 1) * num_samples // (2 * num_chosen) for i in range(num_chosen)]
