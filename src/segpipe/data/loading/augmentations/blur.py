"""The image is out of focus."""

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.loading.transform import Bounds, Partners, Transform


def build_transform(*, sigma_px: Bounds = (0.3, 1.5)) -> Transform:
    """Convolves the image with a Gaussian whose width is uniform in `sigma_px`; the mask stays.

    Args:
        sigma_px: lower and upper bound of the standard deviation in pixels of the crop.
    """

    def blur(
        image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        sigma = rng.uniform(*sigma_px)
        if sigma > 0:
            cv2.GaussianBlur(image, (0, 0), sigma, dst=image)

    return blur
