"""IoU of each class: the pixels that have the class in truth and prediction, divided by those that have it in either.

    n_ii / (t_i + p_i - n_ii), NaN for a class without labelled pixels

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("IoU", is_per_class=True)


def compute(evidence: ImageCounts) -> npt.NDArray[np.float64]:
    """Gives the IoU of each class, 0..1.

    Args:
        evidence: confusion matrices.
    """
    return count(evidence).iou
