"""U-Net's cross-entropy: pixels between two objects that nearly touch count more."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.errors import ConfigError
from segpipe.losses.parts.border_map import measure_closeness
from segpipe.losses.parts.weighted_sum import Loss, weigh_pixels


def build_loss(
    *,
    class_weights: torch.Tensor,
    w0: Annotated[float, Field(ge=0)] = 10.0,
    sigma_px: Annotated[float, Field(gt=0)] = 5.0,
    object_classes: Annotated[list[int], Field(min_length=1)] | None = None,
) -> Loss:
    """Gives L = sum_i w(i) (-log p_i) / sum_i w(i), with w(i) = w_{y_i} + w0 exp(-(d1(i) + d2(i))^2 / (2 sigma^2)).

    The sums run over the labelled pixels i; p_i = softmax(x_i)_{y_i}. d1 and d2 are the distances to the nearest
    borders of two different objects. Objects are the components (8-neighbours) of each class in `object_classes`.

    Which classes: cells or other things that nearly touch each other on a background, as in the paper, are
    `object_classes: [1]`, say: the gaps between them count more. Left out, the components of all classes are objects:
    in a street scene, where they do touch, both sides of every border then count more, and void is no object but the
    objects on both sides of a band of void are still near to each other.

    The map is computed from the target that the loss is given, so it fits every zoom, crop and flip, and `sigma_px` is
    in that target's pixels: a training at half resolution draws borders twice as wide in the scene. An object cut by
    the crop has no border at the cut; what lies outside of the crop is not seen.

    Source: Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, equations 1 and 2, whose w0 and sigma these are.
    Deviations: equation 1 is a sum, this is a weighted mean; where the second term is below w0 / 1000 it is zero.

    Args:
        class_weights: (num_classes,) float32, positive: w_c. w0 is added to them, so they should be about 1 for the
            mean pixel, as the stage class_weights makes them.
        w0: the most that is added.
        sigma_px: how far it reaches.
        object_classes: class indices; None for all.

    Raises:
        ConfigError: a class index is not one of the classes.
    """
    num_classes = len(class_weights)
    classes = list(range(num_classes)) if object_classes is None else object_classes
    if wrong := sorted({index for index in classes if not 0 <= index < num_classes}):
        raise ConfigError(
            f"loss 'border_cross_entropy': option object_classes: there is no class {', '.join(map(str, wrong))}; "
            f"the data's classes are 0..{num_classes - 1}"
        )

    def weigh(target_NHW: torch.Tensor) -> torch.Tensor:
        closeness_NHW = measure_closeness(target_NHW, classes, sigma_px).to(class_weights)
        return weigh_pixels(class_weights, target_NHW) + w0 * closeness_NHW * (target_NHW != IGNORE_INDEX)

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none")

    return Loss(weigh, cost)
