"""Class weights for the loss: a scheme's raw weights, capped and brought to one scale."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.choices import WEIGHTINGS


def compute_class_weights(
    scheme: str, num_px: npt.NDArray[np.int64], cap: float, options: Mapping[str, Any]
) -> npt.NDArray[np.float64]:
    """Weighs classes by a scheme of `segpipe/data/class_weights/schemes`.

    The cap bounds what one rare class can do to the gradient: no weight exceeds `cap` times the smallest one. The scale
    is then chosen so that the mean weight of a labelled training pixel is 1: switching weights on or off does not
    change the size of the loss, and the learning rate keeps its meaning.

    Args:
        scheme: name of the scheme.
        num_px: (num_samples, num_classes) pixels of each class in each training sample; each class occurs.
        cap: greatest ratio between two weights, at least 1.
        options: the scheme's own.

    Returns:
        (num_classes,) positive weights, the same bits on each CPU.

    Raises:
        ConfigError: unknown scheme or option.
    """
    # In the last digits numpy's powers and logarithms differ between CPUs; what follows does not.
    raw = np.array([float(f"{weight:.12g}") for weight in WEIGHTINGS.call(scheme, options, num_px=num_px)])
    capped = np.minimum(raw, raw.min() * cap)
    share = num_px.sum(axis=0) / num_px.sum()
    return np.asarray(capped / math.fsum(share * capped), np.float64)
