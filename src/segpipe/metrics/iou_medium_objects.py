"""Mean IoU of medium objects: regions of one class from 32^2 to below 96^2 px.

    mean over the classes of hit / (hit + missed + false), of the classes with labelled pixels in such objects

`evidence/objects.py` says to which object a pixel belongs.

Source of the sizes: Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.object_scores import mean_iou_of_size

ABOUT = About("mIoU of medium objects", evidence="objects")


def compute(evidence: ImageCounts) -> float:
    """Gives the mean IoU, 0..1; NaN if there is no such object.

    Args:
        evidence: pixels by the size of their objects.
    """
    return mean_iou_of_size(evidence, "medium")
