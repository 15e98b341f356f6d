"""Soft Dice over the classes of a batch."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field

from segpipe.losses.parts.overlap import measure_overlap
from segpipe.losses.parts.weighted_sum import Loss, weigh_classes


def build_loss(*, class_weights: torch.Tensor, smooth: Annotated[float, Field(gt=0)] = 1.0) -> Loss:
    """Gives L = 1 - weighted mean over classes of (2 sum_i p_i g_i + s) / (sum_i p_i + sum_i g_i + s).

    Sums run over the labelled pixels of the whole batch; only classes that occur in it count. The items are the
    classes. A step with several micro batches takes the weighted mean over the classes of all micro batches; each ratio
    uses the pixels of one micro batch. This differs from the loss of the same images in one batch.

    Source: Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, equation 2; without the squares in the denominator, as
    Sudre et al., DLMIA 2017, and with more than two classes.

    Args:
        class_weights: (num_classes,) float32, positive; weigh the classes in the mean.
        smooth: s, in pixels.
    """

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        overlap = measure_overlap(logits_NCHW, target_NHW)
        return 1 - (2 * overlap.shared_C + smooth) / (overlap.predicted_C + overlap.true_C + smooth)

    return Loss(partial(weigh_classes, class_weights), cost)
