"""Mean IoU: the mean over the classes that have labelled pixels. Epochs and champions are chosen by it.

A class that is predicted but never labelled has no IoU. Its pixels lower the IoU of their true classes.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, mean_of_present
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("mIoU")


def compute(evidence: ImageCounts) -> float:
    """Gives the mean IoU, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: confusion matrices.
    """
    return mean_of_present(count(evidence).iou)
