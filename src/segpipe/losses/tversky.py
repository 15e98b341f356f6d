"""Tversky loss: Dice with different weights for misses and false alarms."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field

from segpipe.losses.parts.overlap import measure_overlap
from segpipe.losses.parts.weighted_sum import Loss, weigh_classes


def build_loss(
    *,
    class_weights: torch.Tensor,
    alpha: Annotated[float, Field(ge=0)] = 0.3,
    beta: Annotated[float, Field(gt=0)] = 0.7,
    smooth: Annotated[float, Field(gt=0)] = 1.0,
    exponent: Annotated[float, Field(gt=0)] = 1.0,
) -> Loss:
    """Gives L = weighted mean over classes of (1 - T_c)^exponent, T_c = (TP + s) / (TP + alpha FP + beta FN + s).

    TP = sum_i p_i g_i, FP = sum_i p_i (1 - g_i) and FN = sum_i (1 - p_i) g_i run over the labelled pixels of the whole
    batch; only classes that occur in it count. With alpha = beta = 0.5 and exponent = 1 it is `dice` with twice the s.
    Several micro batches are combined as in `dice`.

    Source: Salehi, Erdogmus, Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", MLMI 2017, equations 2 and 3; defaults are its best. The exponent is 1 / gamma of Abraham, Khan, "A novel
    focal Tversky loss", ISBI 2019, equation 4, who take 0.75. Deviations: more than two classes, and s.

    Args:
        class_weights: (num_classes,) float32, positive; weigh the classes in the mean.
        alpha: weight of false alarms.
        beta: weight of misses.
        smooth: s, in pixels.
        exponent: below 1, classes that are nearly right have more influence; above 1, less.
    """

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        overlap = measure_overlap(logits_NCHW, target_NHW)
        false_C, missed_C = overlap.predicted_C - overlap.shared_C, overlap.true_C - overlap.shared_C
        wrong_C = alpha * false_C + beta * missed_C
        # Rounding can give values below zero, which have no power; at zero the derivative of a root is infinite.
        cost_C = (wrong_C / (overlap.shared_C + wrong_C + smooth)).clamp(min=torch.finfo(wrong_C.dtype).tiny)
        return cost_C**exponent

    return Loss(partial(weigh_classes, class_weights), cost)
