"""Focal loss: cross-entropy in which well-predicted pixels count less."""

from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss, weigh_pixels


def build_loss(*, class_weights: torch.Tensor, gamma: Annotated[float, Field(ge=0)] = 2.0) -> Loss:
    """Gives L = sum_i w_{y_i} (1 - p_i)^gamma (-log p_i) / sum_i w_{y_i}, with p_i = softmax(x_i)_{y_i}.

    The sums run over the labelled pixels i. With gamma = 0 it is `cross_entropy`.

    Source: Lin, Goyal, Girshick, He, Dollar, "Focal loss for dense object detection", ICCV 2017, equation 5, with the
    class weights as alpha. Deviations: a softmax over exclusive classes where the paper has a sigmoid for each; the sum
    is divided by the weights of all labelled pixels where the paper divides by the number of anchors with an object.

    Args:
        class_weights: (num_classes,) float32, positive.
        gamma: larger values give well-predicted pixels less weight.
    """

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        cost_NHW = F.cross_entropy(logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none")
        miss_NHW = 1 - torch.exp(-cost_NHW)
        # For gamma < 1 the derivative of the power is infinite at zero.
        factor_NHW = miss_NHW.clamp(min=torch.finfo(miss_NHW.dtype).tiny) ** gamma
        return factor_NHW * cost_NHW

    return Loss(partial(weigh_pixels, class_weights), cost)
