"""Soft Dice over the classes of a batch."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field

from segpipe.losses.parts.overlap import measure_overlap
from segpipe.losses.parts.weighted_sum import take_weighted_mean


def build_loss(
    *, class_weights: torch.Tensor, smooth: Annotated[float, Field(gt=0)] = 1.0
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Gives L = 1 - weighted mean over classes of (2 sum_i p_i g_i + s) / (sum_i p_i + sum_i g_i + s).

    Sums run over the labelled pixels of the whole batch; only classes that occur in it count.

    Source: Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, equation 2; without the squares in the denominator, as
    Sudre et al., DLMIA 2017, and with more than two classes.

    Args:
        class_weights: (num_classes,) float32, positive; weigh the classes' terms in the mean.
        smooth: s, in pixels.
    """

    def loss(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        overlap = measure_overlap(logits_NCHW, target_NHW)
        dice_C = (2 * overlap.shared_C + smooth) / (overlap.predicted_C + overlap.true_C + smooth)
        return take_weighted_mean(1 - dice_C, class_weights.to(dice_C) * (overlap.true_C > 0))

    return loss
