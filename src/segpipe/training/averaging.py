"""The moving average of a network's weights."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_average(module: nn.Module, decay: float) -> AveragedModel:
    """Makes an average that begins with the network's weights; batch-norm statistics are averaged too.

    Args:
        module: the network.
        decay: share of the old average that stays at each `update_parameters`.
    """
    return AveragedModel(module, multi_avg_fn=_averaging(decay), use_buffers=True)


def _averaging(decay: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], torch.Tensor | int], None]:
    """Gives the function that updates the average after a step; it copies integer counts."""
    move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def average(
        averages: Sequence[torch.Tensor], currents: Sequence[torch.Tensor], num_averaged: torch.Tensor | int
    ) -> None:
        if averages[0].is_floating_point():
            move(averages, currents, num_averaged)
            return
        # torch rounds the average of two counts down, even if they are equal: a frozen part would change.
        for average, current in zip(averages, currents, strict=True):
            average.copy_(current)

    return average
