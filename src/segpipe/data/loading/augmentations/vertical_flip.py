"""Top and bottom are exchanged: for pictures from above or through a microscope, where no side is up."""

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.loading.transform import Partners, Transform

AROUND_THE_HORIZONTAL_AXIS = 0


def build_transform() -> Transform:
    """Turns image and mask upside down."""
    return _flip


def _flip(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
) -> None:
    cv2.flip(image, AROUND_THE_HORIZONTAL_AXIS, dst=image)
    cv2.flip(mask, AROUND_THE_HORIZONTAL_AXIS, dst=mask)
