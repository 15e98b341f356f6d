"""Counts of pixels by class, from confusion matrices.

n_ij are the pixels of class i predicted as j, as in Long, Shelhamer, Darrell, "Fully convolutional networks", CVPR
2015, section 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.image_counts import ImageCounts

Floats = npt.NDArray[np.float64]

CONFUSION_AXES = ("truth", "predicted")
NUM_IMAGES_AT_ONCE = 2048


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


def count(evidence: ImageCounts) -> Counts:
    """Counts the pixels of all images.

    Args:
        evidence: (truth, predicted) of each image.
    """
    confusion = evidence.total().astype(np.float64)
    return Counts(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))


def confusions_of(matrices_ICC: npt.NDArray[np.int64]) -> ImageCounts:
    """Turns dense confusion matrices into evidence.

    Args:
        matrices_ICC: (num_images, num_classes, num_classes) pixels; rows are truth.
    """
    return ImageCounts.of_dense(matrices_ICC, CONFUSION_AXES)


def count_in_each(confusions: ImageCounts) -> Iterator[Floats]:
    """Counts the pixels of each image, some images at a time, so that only these are dense.

    Args:
        confusions: (truth, predicted) of each image.

    Yields:
        (B, 3, C): hit, truth and predicted px of the next B images.
    """
    num_classes = confusions.shape[0]
    for begin in range(0, confusions.num_images, NUM_IMAGES_AT_ONCE):
        part = confusions.between(begin, min(begin + NUM_IMAGES_AT_ONCE, confusions.num_images))
        truth, predicted = part.along("truth"), part.along("predicted")
        sums_3BC = np.empty((3, part.num_images, num_classes))
        for sums_BC, classes, pixels in (
            (sums_3BC[0], truth, np.where(truth == predicted, part.pixels, 0)),
            (sums_3BC[1], truth, part.pixels),
            (sums_3BC[2], predicted, part.pixels),
        ):
            place = part.image * num_classes + classes
            sums_BC[:] = np.bincount(place, weights=pixels, minlength=sums_BC.size).reshape(sums_BC.shape)
        yield sums_3BC.transpose(1, 0, 2)


def iou_of_sums(sums_3C: Floats) -> Floats:
    """Gives (..., C) the IoU of (..., 3, C) hit, truth and predicted px; NaN for a class without labelled pixels."""
    hit, truth, predicted = (sums_3C[..., row, :] for row in range(3))
    return divide(hit, truth + predicted - hit, where=truth > 0)


def mean_over_classes(values_C: Floats) -> Floats:
    """Gives (...) the mean of (..., C) over the classes that have a value; NaN if none has."""
    num_present = np.count_nonzero(~np.isnan(values_C), axis=-1)
    return divide(np.nansum(values_C, axis=-1), num_present.astype(np.float64), where=num_present > 0)


def mean_iou_of_images(confusions: ImageCounts) -> Floats:
    """Gives the mean IoU of each image alone, (num_images,); NaN if no pixel of it is labelled."""
    parts = [mean_over_classes(iou_of_sums(sums_B3C)) for sums_B3C in count_in_each(confusions)]
    return np.concatenate([np.empty(0), *parts])


def divide(numerator: Floats, denominator: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    """Gives the quotients where the condition holds, NaN elsewhere."""
    quotient = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=where)
    return quotient


def mean_of_present(values: Floats) -> float:
    """Gives the mean of the values that are not NaN; NaN if there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
