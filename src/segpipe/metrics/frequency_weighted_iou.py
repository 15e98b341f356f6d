"""Frequency-weighted IoU: the mean of the classes' IoU, each weighted by its labelled pixels t_i.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count

ABOUT = About("frequency-weighted IoU")


def compute(evidence: npt.NDArray[np.int64]) -> float:
    """Gives the frequency-weighted IoU, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: (num_images, num_classes, num_classes) pixels; rows are truth.
    """
    counts = count(evidence)
    total = counts.truth.sum()
    return float(np.nansum(counts.truth * counts.iou) / total) if total else float("nan")
