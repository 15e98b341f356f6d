"""A class counts by the inverse of its share of all labelled pixels, or by a root of it."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field


def compute_weights(
    *, num_px: npt.NDArray[np.int64], power: Annotated[float, Field(gt=0, le=1)] = 1.0
) -> npt.NDArray[np.float64]:
    """Gives w_c = (1 / p_c) ** power, where p_c is the share of class c of all labelled pixels.

    With power 1 all classes contribute equally to the loss, and a network then predicts rare classes far too often.
    0.5, the square root, is the usual compromise.

    Args:
        num_px: (num_samples, num_classes) pixels of each class in each training sample.
        power: how far to go from equal weights (0) to full inverse frequency (1).
    """
    px_of_class = num_px.sum(axis=0)
    share = px_of_class / px_of_class.sum()
    return np.asarray(share**-power, np.float64)
