"""Mean accuracy: the mean of n_ii / t_i over the classes that have labelled pixels.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, divide, mean_of_present

ABOUT = About("mean accuracy")


def compute(evidence: npt.NDArray[np.int64]) -> float:
    """Gives the mean accuracy, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: (num_images, num_classes, num_classes) pixels; rows are truth.
    """
    counts = count(evidence)
    return mean_of_present(divide(counts.hit, counts.truth, where=counts.truth > 0))
