"""Reliability: for each bin of the confidence, how many pixels of it are right.

    confidence_from, confidence_to, num_px, confidence, accuracy

Source: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, figure 1.
"""

import numpy as np
import pandas as pd

from segpipe.metrics.parts.counts import divide
from segpipe.metrics.parts.measured import Measured


def tabulate(measured: Measured) -> pd.DataFrame:
    """Gives a row for each of the 15 bins; `confidence` (mean) and `accuracy` are NaN in an empty bin."""
    pixels, correct, confidence = measured.evidence["confidences"].total().T
    bounds = np.linspace(0, 1, len(pixels) + 1)
    return pd.DataFrame(
        {
            "confidence_from": bounds[:-1],
            "confidence_to": bounds[1:],
            "num_px": pixels.astype(np.int64),
            "confidence": divide(confidence, pixels, where=pixels > 0),
            "accuracy": divide(correct, pixels, where=pixels > 0),
        }
    )
