"""Precision of each class: the share of the pixels predicted as the class that have it.

    n_ii / p_i, NaN for a class without labelled pixels, and for one that is never predicted

Source: van Rijsbergen, "Information retrieval", 2nd edition, 1979, chapter 7.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, divide
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("precision", is_per_class=True)


def compute(evidence: ImageCounts) -> npt.NDArray[np.float64]:
    """Gives the precision of each class, 0..1.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    return divide(counts.hit, counts.predicted, where=(counts.truth > 0) & (counts.predicted > 0))
