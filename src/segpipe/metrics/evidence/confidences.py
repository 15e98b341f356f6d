"""How sure the model was and how often it was right: pixels, correct pixels and summed confidence in 15 equal bins.

Source: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, section 2: confidence is
the probability of the predicted class. Deviation: a bin holds its lower bound, not its upper one, as in torchmetrics.
"""

import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics.parts.histogram import count_combinations
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.prediction import Masks, Prediction

AXES = ("bin", "quantity")
NEEDS_CONFIDENCE = True
NUM_BINS = 15
QUANTITIES = ("pixels", "correct", "confidence")


def collect(prediction: Prediction, target_NHW: Masks) -> ImageCounts:
    """Sorts the labelled pixels of each image by their confidence.

    Args:
        prediction: of the images, with confidence.
        target_NHW: (N, H, W) uint8 class indices; void = 255.

    Returns:
        (N, 15, 3) float64.
    """
    assert prediction.confidence_NHW is not None, "NEEDS_CONFIDENCE asks for it"
    triples = zip(prediction.classes_NHW, target_NHW, prediction.confidence_NHW, strict=True)
    return ImageCounts.of_dense(np.stack([_sort_by_confidence(*triple) for triple in triples]), AXES)


def _sort_by_confidence(
    classes_HW: Masks, target_HW: Masks, confidence_HW: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Gives (15, 3): number of pixels, number of correct ones, sum of the confidence."""
    place_HW = (confidence_HW * np.float32(NUM_BINS)).astype(np.uint8)
    np.minimum(place_HW, NUM_BINS - 1, out=place_HW)
    np.copyto(place_HW, NUM_BINS, where=target_HW == IGNORE_INDEX)
    counts = count_combinations([place_HW, (classes_HW == target_HW).view(np.uint8)], [NUM_BINS, 2])
    confidence = np.bincount(place_HW.ravel(), weights=confidence_HW.ravel(), minlength=NUM_BINS)[:NUM_BINS]
    return np.stack([counts.sum(axis=1), counts[:, 1], confidence], axis=1)
