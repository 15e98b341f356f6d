"""Pixel-wise cross-entropy with class weights."""

from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss, weigh_pixels


def build_loss(*, class_weights: torch.Tensor, label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> Loss:
    """Gives L = sum_i w_{y_i} l_i / sum_i w_{y_i} over the labelled pixels i.

    l_i = -(1 - e) log p_{i, y_i} - (e / C) sum_c log p_{i, c}, with p = softmax(logits) and e the label smoothing.

    The weighted mean is ours: torch's own `reduction="mean"` is non-deterministic on CUDA and NaN for a batch of void.
    Deviation from torch: the smoothed part has the weight of the pixel's class, not the weight of each class c.

    Args:
        class_weights: (num_classes,) float32, positive.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al., CVPR 2016, section 7).
    """

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(
            logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none", label_smoothing=label_smoothing
        )

    return Loss(partial(weigh_pixels, class_weights), cost)
