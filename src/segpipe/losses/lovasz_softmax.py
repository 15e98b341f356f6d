"""Lovasz-softmax: a surrogate of the mean intersection over union."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss, find_present, weigh_classes

# The bits of non-negative floats sort like the floats, and torch sorts integers upwards four times as fast as floats.
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def build_loss(
    *, class_weights: torch.Tensor, per_image: bool = False, stride: Annotated[int, Field(ge=1)] = 1
) -> Loss:
    """Gives L = weighted mean over classes c of Delta_c(m(c)), the Lovasz extension of 1 - IoU_c.

    m_i(c) = 1 - p_i(c) where the truth of pixel i is c, else p_i(c), over the labelled pixels; p = softmax(logits).
    Only classes that occur count. The errors are sorted from the largest; the weight of each is its increment of
    1 - IoU. The gradient treats these weights as constants (the extension is linear while the order stays).

    The items are the images with `per_image`, else the classes. In a step with several micro batches, the images of all
    of them are its items, so the loss is that of the same images in one batch. Without `per_image`, the pixels of each
    micro batch are sorted separately, and the step is the weighted mean over the classes of all micro batches. This
    differs from the loss of the same images in one batch.

    Source: Berman, Rannen Triki, Blaschko, "The Lovasz-softmax loss", CVPR 2018, equations 8, 9, 11 and algorithm 1.
    Deviations: the class weights in the mean (the paper's is even), and the steps of 1 - IoU in closed form instead of
    as differences of neighbours, which lose most digits in a batch of many pixels. With `stride` above 1, only each
    `stride`-th row and column counts, from the first, because sorting takes most of the time: logits of 8x11x192x256,
    forward and backward, take 0.20 s of one thread, 0.06 s with stride 2, 0.04 s with stride 4. The other pixels get
    no gradient from this loss, and a class that occurs only between these rows and columns is absent. So use it as a
    second term next to `cross_entropy`, which takes all pixels.

    Args:
        class_weights: (num_classes,) float32, positive; weigh the classes in the mean.
        per_image: True for the mean of the losses of all images with labels; False for one loss of all pixels.
        stride: distance of the rows and columns that count, pixels; 1 for all.
    """

    def cost_of_classes(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        probability_NCHW = logits_NCHW.softmax(dim=1)
        # A batch with only void keeps one class too, for a cost and a gradient of zero.
        present = find_present(target_NHW, len(class_weights)).nonzero().flatten().tolist() or [0]
        costs = []
        for index in present:
            is_class_NHW, probability_NHW = target_NHW == index, probability_NCHW[:, index]
            error_NHW = torch.where(is_class_NHW, 1 - probability_NHW, probability_NHW)
            step_NHW = _find_steps(error_NHW.detach(), is_class_NHW, target_NHW != IGNORE_INDEX)
            costs.append((error_NHW * step_NHW).sum())
        cost_C = logits_NCHW.new_zeros(len(class_weights))
        return cost_C.index_copy(0, torch.tensor(present, device=cost_C.device), torch.stack(costs))

    over_classes = Loss(partial(weigh_classes, class_weights), cost_of_classes)

    def weigh_images(target_NHW: torch.Tensor) -> torch.Tensor:
        return (target_NHW != IGNORE_INDEX).flatten(1).any(dim=1).to(class_weights)

    def cost_of_images(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        num_images = len(target_NHW)
        pairs = zip(logits_NCHW.chunk(num_images), target_NHW.chunk(num_images), strict=True)
        return torch.stack([over_classes(*pair).mean() for pair in pairs])

    loss = Loss(weigh_images, cost_of_images) if per_image else over_classes
    return loss if stride == 1 else _thin_out(loss, stride)


def _thin_out(loss: Loss, stride: int) -> Loss:
    """Gives the loss of each `stride`-th row and column."""

    def thin(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[..., ::stride, ::stride]

    return Loss(
        weigh=lambda target_NHW: loss.weigh(thin(target_NHW)),
        cost=lambda logits_NCHW, target_NHW: loss.cost(thin(logits_NCHW), thin(target_NHW)),
    )


def _find_steps(error_NHW: torch.Tensor, is_class_NHW: torch.Tensor, is_labelled_NHW: torch.Tensor) -> torch.Tensor:
    """Gives (N, H, W): the increment of a class's 1 - IoU at each pixel.

    The pixels become wrong one after another, beginning with the largest error. After a pixel has become wrong, I
    pixels of the class are still right and U is the union. A pixel of the class makes I smaller by one: it adds 1 / U.
    Another pixel makes U larger by one: it adds I / (U (U - 1)). When no pixel of the class is left, the increment is
    zero; so void, sorted to the end, gets zero.

    Args:
        error_NHW: float32 or float64 in 0..1.
        is_class_NHW: bool, pixels whose truth is the class.
        is_labelled_NHW: bool.
    """
    largest_first_NHW = -error_NHW.view(BITS[error_NHW.dtype])
    # Stable, so that the order of equal errors, and with it their gradients, is always the same.
    order = largest_first_NHW.masked_fill(~is_labelled_NHW, 1).flatten().sort(stable=True).indices
    is_class = is_class_NHW.flatten().index_select(0, order)
    # Integers, because a cumulative sum of floats is non-deterministic on CUDA; 32 bits are 20 times as fast as 64.
    num_wrong = is_class.cumsum(dim=0, dtype=torch.int32)
    num_class = num_wrong[-1]
    position = torch.arange(1, len(order) + 1, dtype=torch.int32, device=order.device)
    left = (num_class - num_wrong).to(error_NHW.dtype)
    union = (num_class + position - num_wrong).to(error_NHW.dtype)
    sorted_steps = torch.where(is_class, 1 / union, left / (union * (union - 1).clamp(min=1)))
    return torch.empty_like(sorted_steps).scatter_(0, order, sorted_steps).view(error_NHW.shape)
