"""Confusion matrices: how many pixels of class i were predicted as class j."""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.histogram import count_combinations
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.prediction import Masks, Prediction

AXES = ("truth", "predicted")


def collect(prediction: Prediction, target_NHW: Masks) -> ImageCounts:
    """Counts the pixels of each image.

    Args:
        prediction: of the images.
        target_NHW: (N, H, W) uint8 class indices; void = 255.
    """
    pairs = zip(prediction.classes_NHW, target_NHW, strict=True)
    return ImageCounts.of_dense(
        np.stack([confusion_matrix(classes, target, prediction.num_classes) for classes, target in pairs]), AXES
    )


def confusion_matrix(classes_HW: Masks, target_HW: Masks, num_classes: int) -> npt.NDArray[np.int64]:
    """Counts how many pixels of class i were predicted as class j.

    Args:
        classes_HW: (H, W) uint8 predicted class indices.
        target_HW: (H, W) uint8 class indices; pixels of any other value (void) are not counted.
        num_classes: size of the matrix.

    Returns:
        (num_classes, num_classes); rows are truth, columns prediction.
    """
    return count_combinations([target_HW, classes_HW], [num_classes, num_classes])
