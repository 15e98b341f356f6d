"""The overlap of prediction and truth for each class, from which Dice and Tversky are computed.

The sums are computed class by class: a one-hot tensor of the truth took half of Dice's time and two copies of the
logits.
"""

from dataclasses import dataclass

import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import widen


@dataclass(frozen=True)
class Overlap:
    """Sums over the labelled pixels i of a batch, each (num_classes,).

    Attributes:
        shared_C: sum of p_ic over the pixels whose truth is c.
        predicted_C: sum of p_ic.
        true_C: number of pixels whose truth is c.
    """

    shared_C: torch.Tensor
    predicted_C: torch.Tensor
    true_C: torch.Tensor


def measure_overlap(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> Overlap:
    """Gives the sums for p = softmax(logits).

    Args:
        logits_NCHW: float.
        target_NHW: int64 class indices, void = 255.
    """
    is_labelled_NHW = target_NHW != IGNORE_INDEX
    shared, predicted, true = [], [], []
    for index, probability_NHW in enumerate(widen(logits_NCHW).softmax(dim=1).unbind(dim=1)):
        is_class_NHW = target_NHW == index
        shared.append(probability_NHW.where(is_class_NHW, 0).sum())
        predicted.append(probability_NHW.where(is_labelled_NHW, 0).sum())
        true.append(is_class_NHW.sum())
    shared_C = torch.stack(shared)
    return Overlap(shared_C, torch.stack(predicted), torch.stack(true).to(shared_C))
