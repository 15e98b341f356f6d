"""Left and right are exchanged."""

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.loading.transform import Partners, Transform

AROUND_THE_VERTICAL_AXIS = 1


def build_transform() -> Transform:
    """Mirrors image and mask."""
    return _flip


def _flip(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
) -> None:
    cv2.flip(image, AROUND_THE_VERTICAL_AXIS, dst=image)
    cv2.flip(mask, AROUND_THE_VERTICAL_AXIS, dst=mask)
