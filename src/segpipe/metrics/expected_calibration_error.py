"""Expected calibration error (ECE): how far the confidence differs from the share of correct pixels.

    sum_b n_b / n |accuracy_b - confidence_b| over 15 equal bins b of the confidence

0 is best: of the pixels that the model is 80% sure of, 80% are right. `tables/reliability.py` gives the bins.

Source: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, equation 3. Deviation: see
`evidence/confidences.py`.
"""

import numpy as np

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("expected calibration error", evidence="confidences")


def compute(evidence: ImageCounts) -> float:
    """Gives the error, 0..1; NaN if no pixel is labelled.

    Args:
        evidence: pixels by their confidence.
    """
    pixels, correct, confidence = evidence.total().T
    total = pixels.sum()
    return float(np.abs(correct - confidence).sum() / total) if total else float("nan")
