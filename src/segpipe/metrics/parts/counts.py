"""Counts of pixels by class, from confusion matrices.

n_ij are the pixels of class i predicted as j, as in Long, Shelhamer, Darrell, "Fully convolutional networks", CVPR
2015, section 5.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Pixels of each class, (num_classes,).

    Attributes:
        hit: n_ii.
        truth: t_i = sum_j n_ij.
        predicted: p_i = sum_j n_ji.
    """

    hit: Floats
    truth: Floats
    predicted: Floats

    @property
    def iou(self) -> Floats:
        """n_ii / (t_i + p_i - n_ii), 0..1; NaN for a class without labelled pixels."""
        return divide(self.hit, self.truth + self.predicted - self.hit, where=self.truth > 0)


def count(confusions_ICC: npt.NDArray[np.int64]) -> Counts:
    """Counts the pixels of all images.

    Args:
        confusions_ICC: (num_images, num_classes, num_classes) pixels; rows are truth.
    """
    confusion = confusions_ICC.sum(axis=0).astype(np.float64)
    return Counts(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))


def divide(numerator: Floats, denominator: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    """Gives the quotients where the condition holds, NaN elsewhere."""
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=where)
    return quotient


def mean_of_present(values: Floats) -> float:
    """Gives the mean of the values that are not NaN; NaN if there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
