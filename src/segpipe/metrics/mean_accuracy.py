"""Mean accuracy: the mean of n_ii / t_i over the classes that have labelled pixels.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, divide, mean_of_present
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("mean accuracy")


def compute(evidence: ImageCounts) -> float:
    """Gives the mean accuracy, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    return mean_of_present(divide(counts.hit, counts.truth, where=counts.truth > 0))
