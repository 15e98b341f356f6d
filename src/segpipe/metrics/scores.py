"""Every score that follows from a confusion matrix.

All scores of a split come from one matrix summed over all its pixels, never from a mean over batches or images, whose
value would depend on how the split is cut. Numpy only: who compares models needs no torch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Changes whenever a score would come out differently for the same masks: scores are compared within one version only.
METRIC_VERSION = 1


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    With n_ij the pixels of class i predicted as j, t_i = sum_j n_ij and p_i = sum_j n_ji, as in Long, Shelhamer,
    Darrell, "Fully convolutional networks", CVPR 2015, section 5.

    Attributes:
        iou: n_ii / (t_i + p_i - n_ii) of each class, 0..1; NaN for a class without one labelled pixel.
        mean_iou: mean over the classes that have labelled pixels. A class that is only predicted, never labelled, has
            no IoU of its own; its pixels count against the classes in whose place it was predicted.
        pixel_accuracy: sum_i n_ii / sum_i t_i.
        mean_accuracy: mean of n_ii / t_i over the same classes.
        frequency_weighted_iou: mean of the classes' IoU, weighted by t_i.
    """

    iou: tuple[float, ...]
    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float

    def to_json(self, class_names: Sequence[str]) -> dict[str, object]:
        """The scores as plain numbers, the IoU by class name; a class without labelled pixels has null."""
        iou = {name: None if np.isnan(value) else value for name, value in zip(class_names, self.iou, strict=True)}
        return {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "iou": iou,
        }


def scores_of(confusion: npt.NDArray[np.int64]) -> Scores:
    """Computes all scores.

    Args:
        confusion: (num_classes, num_classes) pixel counts, rows are truth; at least one pixel.
    """
    truth = confusion.sum(axis=1).astype(np.float64)
    union = truth + confusion.sum(axis=0) - confusion.diagonal()
    is_present = truth > 0
    hit = confusion.diagonal().astype(np.float64)
    iou = np.full(len(confusion), np.nan)
    iou[is_present] = hit[is_present] / union[is_present]
    total = truth.sum()
    return Scores(
        iou=tuple(iou.tolist()),
        mean_iou=float(iou[is_present].mean()),
        pixel_accuracy=float(hit.sum() / total),
        mean_accuracy=float((hit[is_present] / truth[is_present]).mean()),
        frequency_weighted_iou=float((truth[is_present] * iou[is_present]).sum() / total),
    )


def evaluation_digest(images_digest: str) -> str:
    """Identifies what scores rest on: only scores of equal digests may be compared.

    Args:
        images_digest: of the images, their labels and their class table.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.sha256(f"{images_digest} metric {METRIC_VERSION}".encode()).hexdigest()[:32]
