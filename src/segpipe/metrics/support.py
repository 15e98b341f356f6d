"""Support of each class: its labelled pixels. The other scores of a class with few of them say little.

    t_i, 0 for a class without labelled pixels

Source: `precision_recall_fscore_support` of scikit-learn.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("labelled pixels", is_per_class=True)


def compute(evidence: ImageCounts) -> npt.NDArray[np.float64]:
    """Gives the labelled pixels of each class.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    return counts.truth
