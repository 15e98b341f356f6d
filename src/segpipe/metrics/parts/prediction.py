"""What a model predicts for a batch of images: all that evidence is collected from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX

Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """The predictions of a batch of images of one size, in the host's memory.

    Attributes:
        classes_NHW: (N, H, W) uint8, the most likely class of each pixel.
        num_classes: number of classes that the model knows.
        confidence_NHW: (N, H, W) float32, the probability of that class, 0..1; None where no evidence asks for it.
    """

    classes_NHW: Masks
    num_classes: int
    confidence_NHW: npt.NDArray[np.float32] | None = None


def without_void(classes_HW: Masks, target_HW: Masks) -> Masks:
    """Gives a copy of the predicted classes that is void (255) where the truth is."""
    return np.where(target_HW == IGNORE_INDEX, np.uint8(IGNORE_INDEX), classes_HW)
