"""Class-balanced weights by the effective number of samples."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field


def compute_weights(
    *, num_px: npt.NDArray[np.int64], beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
) -> npt.NDArray[np.float64]:
    """Gives w_c = (1 - beta) / (1 - beta ** n_c).

    Source: Cui, Jia, Lin, Song, Belongie, "Class-balanced loss based on effective number of samples", CVPR 2019,
    equation 2. The paper counts images; here n_c is the number of training samples in which class c would fill the
    whole frame (its pixels over the mean labelled pixels of a sample): neighbouring pixels are not independent.

    Args:
        num_px: (num_samples, num_classes) pixels of each class in each training sample.
        beta: 0 gives equal weights; towards 1 they approach the inverse frequency.
    """
    num_effective_frames = num_px.sum(axis=0) / num_px.sum(axis=1).mean()
    return np.asarray((1.0 - beta) / (1.0 - beta**num_effective_frames), np.float64)
