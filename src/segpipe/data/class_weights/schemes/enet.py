"""ENet's bounded logarithmic weighting."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field


def compute_weights(
    *, num_px: npt.NDArray[np.int64], offset: Annotated[float, Field(gt=1)] = 1.02
) -> npt.NDArray[np.float64]:
    """Gives w_c = 1 / ln(offset + p_c), where p_c is the share of class c of all labelled pixels.

    With the offset of 1.02 the weights of all classes stay between 1.42 and 50.5.

    Source: Paszke, Chaurasia, Kim, Culurciello, "ENet", arXiv:1606.02147, section 5.2.

    Args:
        num_px: (num_samples, num_classes) pixels of each class in each training sample.
        offset: the paper's c.
    """
    px_of_class = num_px.sum(axis=0)
    share = px_of_class / px_of_class.sum()
    return np.asarray(1.0 / np.log(offset + share), np.float64)
