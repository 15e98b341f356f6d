"""The type of all losses: costs and their weights as sums, so that batches can be added.

The loss of a batch is sum_k w_k c_k / sum_k w_k. Each loss defines its items k: pixels, classes or images. The weights
depend on the target alone; `segpipe.losses` says why.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from segpipe.classes import IGNORE_INDEX


@dataclass(frozen=True)
class WeightedSum:
    """The sum of weighted costs and the sum of weights.

    Attributes:
        sum: scalar, the sum of weight times cost.
        weight: scalar, the sum of the weights.
    """

    sum: torch.Tensor
    weight: torch.Tensor

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        """Gives the sum over the items of both."""
        return WeightedSum(self.sum + other.sum, self.weight + other.weight)

    def mean(self) -> torch.Tensor:
        """Gives sum / weight, or zero if the weight is zero."""
        # By one and not by a tiny number: with a factor, its reciprocal is infinite and the gradient NaN.
        return self.sum / self.weight.where(self.weight > 0, 1)


@dataclass(frozen=True)
class Ahead:
    """Weights in two steps, where they take long: a training draws its maps while the step before is computed.

    Attributes:
        draw: gives maps (N, H, W), float, on the CPU, for masks (N, H, W) of class indices, any integer type.
        weigh: gives the weights for a target and its maps, as `Loss.weigh` does.
    """

    draw: Callable[[torch.Tensor], torch.Tensor]
    weigh: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """The result of `build_loss`: the functions for costs and their weights.

    Attributes:
        weigh: gives the weights for a target (N, H, W), int64 class indices with void = 255. Weights are float, of any
            shape, not negative, and zero for void and for absent classes.
        cost: gives the costs for logits (N, C, H, W) and a target, with the weights' shape and the logits' dtype;
            finite also where the weight is zero. The logits are float32 or float64.
        ahead: the same weights in two steps, if they take long.
    """

    weigh: Callable[[torch.Tensor], torch.Tensor]
    cost: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ahead: Ahead | None = None

    def __call__(self, logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> WeightedSum:
        """Gives the sum and the weight of a batch.

        Args:
            logits_NCHW: float, of the target's height and width.
            target_NHW: int64 class indices, void = 255.
        """
        weights = self.weigh(target_NHW)
        sum_of_costs = self.add_up(logits_NCHW, target_NHW, weights)
        return WeightedSum(sum_of_costs, weights.to(sum_of_costs).sum())

    def add_up(self, logits_NCHW: torch.Tensor, target_NHW: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Gives the sum of a batch whose weights are known, a scalar.

        Args:
            logits_NCHW: float, of the target's height and width.
            target_NHW: int64 class indices, void = 255.
            weights: of `weigh`.
        """
        costs = self.cost(widen(logits_NCHW), target_NHW)
        return (costs * weights.to(costs)).sum()


def widen(logits: torch.Tensor) -> torch.Tensor:
    """Converts logits of 16 bits to float32, because sums over a batch's pixels need more than 11 bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def weigh_pixels(class_weights: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    """Gives the weight of each pixel: that of its class, or zero for void.

    Args:
        class_weights: (num_classes,) float, on the target's device.
        target_NHW: int64 class indices, void = 255.

    Returns:
        (N, H, W) of the weights' dtype.
    """
    # A table with an entry for void and index_select are ten times as fast as masking and indexing.
    table = class_weights.new_zeros(IGNORE_INDEX + 1)
    table[: len(class_weights)] = class_weights
    return table.index_select(0, target_NHW.flatten()).view(target_NHW.shape)


def weigh_classes(class_weights: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    """Gives the weight of each class; zero for classes that do not occur.

    Args:
        class_weights: (num_classes,) float, on the target's device.
        target_NHW: int64 class indices, void = 255.

    Returns:
        (num_classes,) of the weights' dtype.
    """
    return class_weights * find_present(target_NHW, len(class_weights))


def find_present(target_NHW: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Gives (num_classes,) bool: which classes occur in a target."""
    return torch.bincount(target_NHW.flatten(), minlength=IGNORE_INDEX + 1)[:num_classes] > 0
