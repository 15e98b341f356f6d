"""Frequency-weighted IoU: the mean of the classes' IoU, each weighted by its labelled pixels t_i.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

import numpy as np

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("frequency-weighted IoU")


def compute(evidence: ImageCounts) -> float:
    """Gives the frequency-weighted IoU, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    total = counts.truth.sum()
    return float(np.nansum(counts.truth * counts.iou) / total) if total else float("nan")
