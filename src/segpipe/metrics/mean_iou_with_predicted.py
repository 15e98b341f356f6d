"""Mean IoU as mmsegmentation and torchmetrics count it: a class that is only predicted counts with IoU 0.

    mean of n_ii / (t_i + p_i - n_ii) over the classes i with t_i + p_i > 0

Our `mean_iou` leaves out a class without labelled pixels. The two are equal unless a class without labelled pixels is
predicted somewhere. Use this one to compare with numbers from elsewhere.

Source: `MulticlassJaccardIndex(average="macro")` of torchmetrics 1.9; `IoUMetric` of mmsegmentation 1.2, which takes
the mean of the values that are not NaN.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, divide, mean_of_present
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("mIoU, predicted classes too")


def compute(evidence: ImageCounts) -> float:
    """Gives the mean IoU, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    union = counts.truth + counts.predicted - counts.hit
    return mean_of_present(divide(counts.hit, union, where=union > 0))
