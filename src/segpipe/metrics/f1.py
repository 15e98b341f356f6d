"""F1 of each class, the harmonic mean of precision and recall, which is the Dice coefficient: 2 IoU / (1 + IoU).

    2 n_ii / (t_i + p_i), NaN for a class without labelled pixels

Source: van Rijsbergen, "Information retrieval", 2nd edition, 1979, chapter 7.
"""

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.counts import count, divide
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("F1", is_per_class=True)


def compute(evidence: ImageCounts) -> npt.NDArray[np.float64]:
    """Gives the F1 of each class, 0..1.

    Args:
        evidence: confusion matrices.
    """
    counts = count(evidence)
    return divide(2 * counts.hit, counts.truth + counts.predicted, where=counts.truth > 0)
