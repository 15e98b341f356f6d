"""Mean IoU: the mean over the classes that have labelled pixels. It chooses epochs and champions.

A class that is only predicted, never labelled, has no IoU of its own; its pixels count against the classes in whose
place it was predicted.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, mean_of_present

ABOUT = About("mIoU")


def compute(evidence: npt.NDArray[np.int64]) -> float:
    """Gives the mean IoU, 0..1; NaN without one labelled pixel.

    Args:
        evidence: (num_images, num_classes, num_classes) pixels; rows are truth.
    """
    return mean_of_present(count(evidence).iou)
