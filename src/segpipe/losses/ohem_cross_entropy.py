"""Cross-entropy of the hard pixels only: online hard example mining (OHEM)."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss, WeightedSum, weigh_pixels


def build_loss(
    *,
    class_weights: torch.Tensor,
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7,
    min_kept_share: Annotated[float, Field(gt=0, le=1)] = 0.0625,
) -> Loss:
    """Gives the weighted cross-entropy of `cross_entropy` over the hard pixels of the batch.

    A labelled pixel is hard if its true class has a probability below `threshold`. If these are fewer than
    `min_kept_share` of the labelled pixels, the pixels with the lowest probability up to that share are hard, and all
    pixels with the same probability as the last of them. So the choice does not depend on the order of sorting. The
    gradient treats the choice as constant. `threshold: 1, min_kept_share: 1` is `cross_entropy`.

    The whole batch is one item, with the weight of all its labelled pixels, because the hard pixels are known only
    after the forward pass. In a step with several micro batches, each chooses its own hard pixels, and the step takes
    the mean of the micro batches' losses, weighted by their labelled pixels. This differs from the loss of the same
    images in one batch, unless all pixels are hard.

    Source: Shrivastava, Gupta, Girshick, CVPR 2016, section 4.2, who take the regions of highest loss in an image. The
    rule for pixels, with a probability as threshold and a minimum number, is the one of PSPNet's successors (Wu, Shen,
    van den Hengel, "Bridging category-level and instance-level semantic image segmentation", 2016, section 3.3).
    Deviation: the minimum is a share, not a number (100,000 pixels a crop is usual), so it fits any crop, training at
    half resolution, and auxiliary logits.

    Args:
        class_weights: (num_classes,) float32, positive; they weight the hard pixels, but do not affect their choice.
        threshold: a pixel is easy if its true class has this probability or more.
        min_kept_share: minimum share of hard pixels among the labelled pixels of the whole batch.
    """
    easy_cost = -math.log(threshold)

    def weigh(target_NHW: torch.Tensor) -> torch.Tensor:
        return weigh_pixels(class_weights, target_NHW).sum()

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        cost_NHW = F.cross_entropy(logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none")
        num_labelled = int((target_NHW != IGNORE_INDEX).sum())
        is_hard_NHW = _find_hard(cost_NHW.detach(), easy_cost, math.ceil(min_kept_share * num_labelled))
        weight_NHW = weigh_pixels(class_weights.to(logits_NCHW), target_NHW) * is_hard_NHW
        return WeightedSum((cost_NHW * weight_NHW).sum(), weight_NHW.sum()).mean()

    return Loss(weigh, cost)


def _find_hard(cost_NHW: torch.Tensor, easy_cost: float, min_kept_px: int) -> torch.Tensor:
    """Gives (N, H, W) bool: the pixels with a cost above `easy_cost`, and the next ones up to the minimum number.

    Void has a cost of zero, so it comes last. If it ties with labelled pixels of cost zero, it still has no weight.
    """
    is_hard_NHW = cost_NHW > easy_cost
    if int(is_hard_NHW.sum()) >= min_kept_px:
        return is_hard_NHW
    # Not `kthvalue`: its CUDA kernel is marked as non-deterministic.
    return cost_NHW >= cost_NHW.flatten().topk(min_kept_px, sorted=False).values.min()
