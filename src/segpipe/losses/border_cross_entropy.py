"""U-Net's cross-entropy: pixels between two objects that nearly touch have more weight."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.errors import ConfigError
from segpipe.losses.parts.border_map import measure_closeness
from segpipe.losses.parts.weighted_sum import Ahead, Loss, weigh_pixels


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

    Choice of classes: for cells or other things that nearly touch on a background, as in the paper, name their class,
    for example `object_classes: [1]`; the gaps between them get more weight. Without the option, the components of all
    classes are objects. In a street scene, where they touch, both sides of every border then get more weight. Void is
    not an object, but objects on both sides of a band of void are near each other.

    The map is computed from the loss's target, so it fits every zoom, crop and flip. A training draws it while the step
    before is computed. `sigma_px` is in pixels of this target: at half resolution the borders are twice as wide in the
    scene. An object that the crop cuts has no border at the cut; objects outside of the crop do not count.

    Source: Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, equations 1 and 2, whose w0 and sigma these are.
    Deviations: equation 1 is a sum, this is a weighted mean; where the second term is below w0 / 1000 it is zero.

    Args:
        class_weights: (num_classes,) float32, positive: w_c. w0 is added to them, so they should be about 1 for the
            mean pixel, as the stage class_weights makes them.
        w0: the largest added weight.
        sigma_px: sigma, the width of the added weight, pixels.
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

    def draw(target_NHW: torch.Tensor) -> torch.Tensor:
        return measure_closeness(target_NHW, classes, sigma_px)

    def weigh(target_NHW: torch.Tensor, closeness_NHW: torch.Tensor) -> torch.Tensor:
        added_NHW = w0 * closeness_NHW.to(class_weights) * (target_NHW != IGNORE_INDEX)
        return weigh_pixels(class_weights, target_NHW) + added_NHW

    def cost(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none")

    return Loss(lambda target_NHW: weigh(target_NHW, draw(target_NHW)), cost, Ahead(draw, weigh))
