"""Cross-entropy of the hard pixels only: online hard example mining."""

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

    Hard is a labelled pixel whose true class has a probability below `threshold`. Where these are fewer than
    `min_kept_share` of the labelled pixels, the ones with the lowest probability are taken up to that share, and with
    them all that are exactly as hard as the last of them: the choice then hangs on no order of sorting. Which pixels
    are hard is seen as fixed by the gradient. `threshold: 1, min_kept_share: 1` is `cross_entropy`.

    The whole batch is one item, which weighs what all its labelled pixels weigh: which pixels are hard is known only
    after the network has seen them. Where a step has several micro batches, each chooses its own hard pixels, and the
    step takes the mean of the micro batches' losses, weighted by their labelled pixels. That is another loss than the
    one of the same images in one batch, unless all pixels are hard.

    Source: Shrivastava, Gupta, Girshick, CVPR 2016, section 4.2, who take the regions of highest loss in an image. The
    rule for pixels, with a probability as the limit and a least number, is the one that PSPNet's successors use (Wu,
    Shen, van den Hengel, "Bridging category-level and instance-level semantic image segmentation", 2016, section 3.3).
    Deviation: the least number is a share, not pixels (100,000 a crop is usual): it means the same for any crop, for
    half-resolution training, and for auxiliary logits.

    Args:
        class_weights: (num_classes,) float32, positive; they weigh the hard pixels and do not choose them.
        threshold: probability of the truth from which on a pixel is easy.
        min_kept_share: of the labelled pixels of the whole batch.
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
    """Gives (N, H, W) bool: the pixels that cost more than `easy_cost`, and the next ones up to the least number.

    Void costs nothing, so it comes last; where it ties with pixels that cost nothing either, it has no weight.
    """
    is_hard_NHW = cost_NHW > easy_cost
    if int(is_hard_NHW.sum()) >= min_kept_px:
        return is_hard_NHW
    # Not `kthvalue`: its CUDA kernel is marked as non-deterministic.
    return cost_NHW >= cost_NHW.flatten().topk(min_kept_px, sorted=False).values.min()
