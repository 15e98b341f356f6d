"""Pixel accuracy: the share of the labelled pixels that are predicted correctly.

    sum_i n_ii / sum_i t_i

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("pixel accuracy")


def compute(evidence: ImageCounts) -> float:
    """Gives the pixel accuracy, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    total = counts.truth.sum()
    return float(counts.hit.sum() / total) if total else float("nan")
