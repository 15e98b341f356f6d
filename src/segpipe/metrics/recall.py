"""Recall of each class: the share of its labelled pixels that are predicted as it; its mean is the mean accuracy.

    n_ii / t_i, NaN for a class without labelled pixels

Source: van Rijsbergen, "Information retrieval", 2nd edition, 1979, chapter 7.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, divide
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("recall", is_per_class=True)


def compute(evidence: ImageCounts) -> npt.NDArray[np.float64]:
    """Gives the recall of each class, 0..1.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    return divide(counts.hit, counts.truth, where=counts.truth > 0)
