"""Lovasz-softmax: a surrogate of the mean intersection over union itself."""

from functools import partial

import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss, find_present, weigh_classes

# The bits of floats that are not negative sort as the floats do, and torch sorts integers from the smallest four times
# as fast as it sorts floats.
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def build_loss(*, class_weights: torch.Tensor, per_image: bool = False) -> Loss:
    """Gives L = weighted mean over classes c of Delta_c(m(c)), the Lovasz extension of 1 - IoU_c.

    m_i(c) = 1 - p_i(c) where the truth of pixel i is c, else p_i(c), over the labelled pixels; p = softmax(logits).
    Only classes that occur count. Sorted from the largest, the errors are weighted by what each adds to 1 - IoU, which
    is seen as fixed by the gradient (the extension is linear while the order stays).

    The items are the images with `per_image`, else the classes. Where a step has several micro batches, the images of
    all of them are its items, which is the loss of the same images in one batch; without `per_image` it is the weighted
    mean over the classes of each micro batch, whose pixels are sorted by themselves: that is another loss.

    Source: Berman, Rannen Triki, Blaschko, "The Lovasz-softmax loss", CVPR 2018, equations 8, 9, 11 and algorithm 1.
    Deviations: the class weights in the mean (the paper's is even), and the steps of 1 - IoU in closed form instead of
    as differences of neighbours, which lose most digits in a batch of many pixels.

    Args:
        class_weights: (num_classes,) float32, positive; weigh the classes in the mean.
        per_image: the loss of each image that has a label, then their mean; else one loss of all pixels together.
    """

    def cost_of_classes(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        probability_NCHW = logits_NCHW.softmax(dim=1)
        # Of a batch of void one class is taken too: it costs nothing, and gives a gradient of zero.
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

    return Loss(weigh_images, cost_of_images) if per_image else over_classes


def _find_steps(error_NHW: torch.Tensor, is_class_NHW: torch.Tensor, is_labelled_NHW: torch.Tensor) -> torch.Tensor:
    """Gives (N, H, W): what each pixel adds to 1 - IoU of a class when the pixels turn wrong from the largest error on.

    With the pixels up to this one wrong, I pixels of the class are still right and U is the union. A pixel of the class
    has made I smaller by one: it adds 1 / U. Another has made U larger by one: it adds I / (U (U - 1)). Once no pixel
    of the class is left nothing adds; so void, sorted to the end, gets zero.

    Args:
        error_NHW: float32 or float64 in 0..1.
        is_class_NHW: bool, pixels whose truth is the class.
        is_labelled_NHW: bool.
    """
    largest_first_NHW = -error_NHW.view(BITS[error_NHW.dtype])
    # Stable: else equal errors would share out their gradient in an order that is nobody's choice.
    order = largest_first_NHW.masked_fill(~is_labelled_NHW, 1).flatten().sort(stable=True).indices
    is_class = is_class_NHW.flatten().index_select(0, order)
    # Integers: a cumulative sum of floats is non-deterministic on CUDA; of 32 bits: 20 times as fast as of 64.
    num_wrong = is_class.cumsum(dim=0, dtype=torch.int32)
    num_class = num_wrong[-1]
    position = torch.arange(1, len(order) + 1, dtype=torch.int32, device=order.device)
    left = (num_class - num_wrong).to(error_NHW.dtype)
    union = (num_class + position - num_wrong).to(error_NHW.dtype)
    sorted_steps = torch.where(is_class, 1 / union, left / (union * (union - 1).clamp(min=1)))
    return torch.empty_like(sorted_steps).scatter_(0, order, sorted_steps).view(error_NHW.shape)
