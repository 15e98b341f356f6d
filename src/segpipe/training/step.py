"""One step of a training: adds up the gradients of its micro batches, then takes the optimiser's step."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from segpipe.inference.logits import normalize
from segpipe.training.objective import Objective
from segpipe.training.prefetch import DeviceBatch
from segpipe.training.processes.ranks import adding_later
from segpipe.training.state import TrainState

Observe = Callable[[torch.Tensor, torch.Tensor], None]


def add_gradients(
    state: TrainState, objective: Objective, batches: Sequence[DeviceBatch], is_half: bool, observe: Observe
) -> torch.Tensor:
    """Adds the gradients of a step to the gradients of the network's parameters.

    Several processes add up the gradients of their parts.

    Args:
        state: the training's state; the network is in training mode.
        objective: the loss to minimise; it weights the micro batches.
        batches: this process's part of the step's micro batches, on the module's device. The network gets one after
            another.
        is_half: halves height and width of images and masks first; maps are those of halved masks.
        observe: called with the logits and the target of each micro batch.

    Returns:
        This process's part of the step's loss, a scalar on the device: to read it would make the host wait for the
        device.
    """
    losses = []
    targets = [_target_of(batch, is_half) for batch in batches]
    shares = objective.shares_of(targets, state.ranks, [batch.maps for batch in batches])
    for number, (batch, share) in enumerate(zip(batches, shares, strict=True), start=1):
        images_NCHW = normalize(batch.images_NHWC)
        if is_half:
            images_NCHW = F.avg_pool2d(images_NCHW, 2)
        with adding_later(state.replica, is_last=number == len(batches)):
            with state.precision.autocast():
                outputs = state.replica(images_NCHW)
            value, logits_NCHW = share.of_outputs(outputs)
            state.precision.backward(value)
        observe(logits_NCHW.detach(), share.target_NHW)
        losses.append(value.detach())
    return torch.stack(losses).sum()


def _target_of(batch: DeviceBatch, is_half: bool) -> torch.Tensor:
    return (halve_masks(batch.masks_NHW) if is_half else batch.masks_NHW).long()


def halve_masks(masks_NHW: torch.Tensor) -> torch.Tensor:
    """Gives masks at half height and width, each pixel the most frequent value of its 2x2 block.

    So a border stays where it is, as in the image, which is averaged over the same blocks. If two values have two
    pixels each, or all four differ, the top left and the bottom right pixel are taken in turn, as on a chessboard:
    always the same corner would move borders by half a pixel.

    Args:
        masks_NHW: (N, H, W), any integer type; void counts as a value. Of odd sides the last row or column is left out.

    Returns:
        (N, H // 2, W // 2) of the same type.
    """
    height, width = (side // 2 for side in masks_NHW.shape[1:])
    top_left, top_right, bottom_left, bottom_right = (
        masks_NHW[:, row : 2 * height : 2, column : 2 * width : 2] for row in range(2) for column in range(2)
    )
    row, column = (torch.arange(side, device=masks_NHW.device) for side in (height, width))
    is_first_HW = (row[:, None] + column) % 2 == 0
    one, other = torch.where(is_first_HW, top_left, bottom_right), torch.where(is_first_HW, bottom_right, top_left)
    occurs_again = (one == other) | (one == top_right) | (one == bottom_left)
    # Else the other three decide, if two of them are equal.
    is_of_other = (other == top_right) | (other == bottom_left)
    rest = torch.where(is_of_other, other, torch.where(top_right == bottom_left, top_right, one))
    return torch.where(occurs_again, one, rest)


def take_step(state: TrainState, max_gradient_norm: float | None) -> None:
    """Takes one optimiser step with the added gradients, and clears them.

    If a step is left out because gradients overflowed, neither the schedule nor the average moves.

    Args:
        state: the training's state.
        max_gradient_norm: clips the norm of the gradients; None for no limit.
    """
    has_changed = state.precision.step(state.optimizer, state.module, max_gradient_norm)
    state.optimizer.zero_grad(set_to_none=True)
    if has_changed:
        state.schedule.step()
        if state.average is not None:
            state.average.update_parameters(state.module)
