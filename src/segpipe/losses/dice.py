"""Soft Dice over the classes of a batch."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX


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
        is_labelled_N1HW = (target_NHW != IGNORE_INDEX).unsqueeze(1)
        truth_NHWC = F.one_hot(target_NHW.where(is_labelled_N1HW.squeeze(1), 0), logits_NCHW.shape[1])
        truth_NCHW = truth_NHWC.permute(0, 3, 1, 2) * is_labelled_N1HW
        probability_NCHW = logits_NCHW.softmax(dim=1) * is_labelled_N1HW
        both_C = (probability_NCHW * truth_NCHW).sum(dim=(0, 2, 3))
        size_C = probability_NCHW.sum(dim=(0, 2, 3)) + truth_NCHW.sum(dim=(0, 2, 3))
        dice_C = (2 * both_C + smooth) / (size_C + smooth)
        weight_C = class_weights.to(logits_NCHW) * (truth_NCHW.sum(dim=(0, 2, 3)) > 0)
        return ((1 - dice_C) * weight_C).sum() / weight_C.sum().clamp(min=torch.finfo(weight_C.dtype).tiny)

    return loss
