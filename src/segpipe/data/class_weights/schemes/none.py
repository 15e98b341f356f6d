"""All classes count equally."""

import numpy as np
import numpy.typing as npt


def compute_weights(*, num_px: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Gives w_c = 1.

    Args:
        num_px: (num_samples, num_classes) pixels of each class in each training sample.
    """
    return np.ones(num_px.shape[1])
