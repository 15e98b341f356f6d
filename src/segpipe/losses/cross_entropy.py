"""Pixel-wise cross-entropy with class weights."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX


def build_loss(
    *, class_weights: torch.Tensor, label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Gives L = sum_i w_{y_i} l_i / sum_i w_{y_i} over the labelled pixels i, with l_i = -log softmax(x_i)_{y_i}.

    The weighted mean is ours: torch's own `reduction="mean"` is non-deterministic on CUDA and NaN for a batch of void.

    Args:
        class_weights: (num_classes,) float32, positive.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al., CVPR 2016, section 7).
    """

    def loss(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        weights = class_weights.to(logits_NCHW)
        per_pixel_NHW = F.cross_entropy(
            logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none", label_smoothing=label_smoothing
        )
        is_labelled_NHW = target_NHW != IGNORE_INDEX
        weight_NHW = weights[target_NHW.where(is_labelled_NHW, 0)] * is_labelled_NHW
        return (per_pixel_NHW * weight_NHW).sum() / weight_NHW.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    return loss
