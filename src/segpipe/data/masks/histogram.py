"""Counts the values of a mask, exactly and fast."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

MAX_EXACT_PX = 1 << 24  # OpenCV gives its counts as float32


def count_values(values: npt.NDArray[Any], num_values: int = 256) -> npt.NDArray[np.int64]:
    """Counts how many pixels have each value.

    Args:
        values: (height, width) uint8 or uint16, below `num_values`.
        num_values: how many values there are.

    Returns:
        (num_values,) counts.
    """
    pixels = np.ascontiguousarray(values).reshape(1, -1)
    counts = np.zeros(num_values, np.int64)
    for first in range(0, pixels.size, MAX_EXACT_PX):
        part = pixels[:, first : first + MAX_EXACT_PX]
        counts += cv2.calcHist([part], [0], None, [num_values], [0, num_values]).ravel().astype(np.int64)
    return counts
