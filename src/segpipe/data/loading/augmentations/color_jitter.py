"""Brightness, contrast, saturation and hue vary."""

import math
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from segpipe.data.loading.transform import Partners, Transform

Strength = Annotated[float, Field(ge=0, le=1)]
HueStrength = Annotated[float, Field(ge=0, le=0.5)]

# ITU-R BT.601. The rows of the second are luma and the two axes of colour of NTSC's YIQ.
LUMA = np.array([0.299, 0.587, 0.114])
RGB_TO_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)


def build_transform(
    *, brightness: Strength = 0.0, contrast: Strength = 0.0, saturation: Strength = 0.0, hue: HueStrength = 0.0
) -> Transform:
    """Draws four factors and applies them in one pass.

    Brightness multiplies all values, contrast their distance to the image's mean luma, saturation their distance to the
    pixel's own luma: each factor is uniform in [1 - s, 1 + s], as in torchvision's `ColorJitter`. Hue turns the colours
    around the axis of greys by an angle uniform in [-hue, hue] of a full circle.

    Two deviations from torchvision. Hue turns in YIQ, not in HSV: a linear map, which keeps the luma. And nothing is
    clipped before the end: the four maps then commute, so that their order need not be drawn, and are one 3x4 matrix,
    which is ten times as fast as one after another.

    Args:
        brightness: s of the brightness; 0 does not change it.
        contrast: s of the contrast.
        saturation: s of the saturation.
        hue: greatest turn, as a share of a full circle.
    """
    strengths = np.array([brightness, contrast, saturation, hue])

    def jitter(
        image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        b, c, s, turn = rng.uniform(-strengths, strengths).tolist()
        apply_factors(image, 1 + b, 1 + c, 1 + s, turn)

    return jitter


def apply_factors(
    image: npt.NDArray[np.uint8], brightness: float, contrast: float, saturation: float, turn: float
) -> None:
    """Changes the colours of an image in place.

    Args:
        image: (height, width, 3) uint8 RGB.
        brightness: factor of all values.
        contrast: factor of the distance to the mean luma.
        saturation: factor of the distance to a pixel's luma.
        turn: of the hue, as a share of a full circle.
    """
    mean_luma = float(LUMA @ cv2.mean(image)[:3])
    of_color = saturation * np.eye(3) + (1 - saturation) * LUMA
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * (_hue_matrix(turn) @ of_color)
    matrix[:, 3] = brightness * (1 - contrast) * mean_luma
    cv2.transform(image, matrix, dst=image)


def _hue_matrix(turn: float) -> npt.NDArray[np.float64]:
    sine, cosine = math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)
    rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.asarray(YIQ_TO_RGB @ rotation @ RGB_TO_YIQ)
