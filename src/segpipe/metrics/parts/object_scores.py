"""The mean IoU of the objects of one size."""

import numpy as np

from segpipe.metrics.parts.counts import divide, mean_of_present
from segpipe.metrics.parts.image_counts import ImageCounts

SIZES = ("small", "medium", "large")
QUANTITIES = ("hit", "missed", "false")


def mean_iou_of_size(evidence: ImageCounts, size: str) -> float:
    """Gives the mean of hit / (hit + missed + false) over the classes with labelled pixels in objects of a size.

    Args:
        evidence: (class, size, quantity) of each image.
        size: one of `SIZES`.

    Returns:
        0..1; NaN if there is no such object.
    """
    hit, missed, false = evidence.total()[:, SIZES.index(size)].T.astype(np.float64)
    return mean_of_present(divide(hit, hit + missed + false, where=hit + missed > 0))
