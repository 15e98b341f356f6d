"""What training varies in a sample: zoom, place, side, colour. Each draw comes from the sample's own generator.

Geometry is ours: the crop is cut from the memory map before anything is resized, so that only its pixels are read.
Colour is albumentations', behind `ColorJitterTransform`, the one place that knows it.
"""

import math
import os
import random
import threading
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX
from segpipe.config import Augment, ColorJitter

PADDING_COLOR = (124, 116, 104)  # ImageNet's mean, which normalisation brings near zero


def augment_sample(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    settings: Augment,
    color_jitter: "ColorJitterTransform",
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draws one training sample from an image and its mask.

    Args:
        image: (height, width, 3) uint8 RGB; not changed.
        mask: (height, width) uint8; not changed.
        settings: the distributions to draw from.
        color_jitter: made from the same settings.
        rng: the sample's own generator; nothing else is random.

    Returns:
        (*settings.crop, 3) image and settings.crop mask, uint8; void where the crop reaches out of the image.
    """
    scale = math.exp(rng.uniform(math.log(settings.scale[0]), math.log(settings.scale[1])))
    place_yx = rng.uniform(size=2)
    flip = rng.uniform() < settings.flip
    color_seed = int(rng.integers(2**32))
    image, mask = cut_and_resize(image, mask, scale, settings.crop, (float(place_yx[0]), float(place_yx[1])))
    if flip:
        image, mask = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    return color_jitter(image, color_seed), mask


def cut_and_resize(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    scale: float,
    crop: tuple[int, int],
    place_yx: tuple[float, float],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Gives what a crop of the resized image would hold, resizing only that part.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8.
        scale: zoom; 2 shows half the height at twice the size.
        crop: height and width of the result in px.
        place_yx: 0..1 each; where the window lies between the first and the last place that it can have. In a window
            larger than the image the image lies so, and void around it.
    """
    out_image = np.empty((*crop, 3), np.uint8)
    out_image[:] = PADDING_COLOR
    out_mask = np.full(crop, IGNORE_INDEX, np.uint8)
    source: list[slice] = []
    target: list[slice] = []
    for size, crop_size, place in zip(mask.shape, crop, place_yx, strict=True):
        if crop_size / scale <= size:
            length = max(1, round(crop_size / scale))
            first = round((size - length) * place)
            source.append(slice(first, first + length))
            target.append(slice(0, crop_size))
        else:
            length = min(crop_size, max(1, round(size * scale)))
            first = round((crop_size - length) * place)
            source.append(slice(0, size))
            target.append(slice(first, first + length))
    size_wh = (target[1].stop - target[1].start, target[0].stop - target[0].start)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    out_image[target[0], target[1]] = cv2.resize(image[source[0], source[1]], size_wh, interpolation=interpolation)
    part = cv2.resize(mask[source[0], source[1]], size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
    out_mask[target[0], target[1]] = part
    return out_image, out_mask


class ColorJitterTransform:
    """albumentations' ColorJitter, seeded for each sample.

    An integer seed would give every transform of a Compose the same stream of random numbers, so the state is set anew
    for each sample; and as it is state, each thread has a Compose of its own.

    Args:
        settings: strengths; with all of them 0 an image passes unchanged.
    """

    def __init__(self, settings: ColorJitter) -> None:
        self._settings = settings
        self._is_on = any(settings.model_dump().values())
        self._of_thread = threading.local()

    def _compose(self) -> Any:
        if not hasattr(self._of_thread, "compose"):
            # Else the import asks the network for a newer version. Here and not above: it takes seconds, and only a
            # training that varies colours needs it.
            os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
            import albumentations as A

            s = self._settings
            jitter = A.ColorJitter(
                brightness=(1 - s.brightness, 1 + s.brightness),
                contrast=(1 - s.contrast, 1 + s.contrast),
                saturation=(1 - s.saturation, 1 + s.saturation),
                hue=(-s.hue, s.hue),
                p=1.0,
            )
            self._of_thread.compose = A.Compose([jitter])
        return self._of_thread.compose

    def __call__(self, image: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
        """Gives the (height, width, 3) uint8 image with its colours varied."""
        if not self._is_on:
            return image
        compose = self._compose()
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        jittered: npt.NDArray[np.uint8] = compose(image=image)["image"]
        return jittered
