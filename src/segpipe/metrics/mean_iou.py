"""Mean IoU: the mean over the classes that have labelled pixels. Epochs and champions are chosen by it.

A class that is predicted but never labelled has no IoU. Its pixels lower the IoU of their true classes.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, mean_of_present

ABOUT = About("mIoU")


def compute(evidence: npt.NDArray[np.int64]) -> float:
    """Gives the mean IoU, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: (num_images, num_classes, num_classes) pixels; rows are truth.
    """
    return mean_of_present(count(evidence).iou)
