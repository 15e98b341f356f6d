"""One step of a training: adds up the gradients of its micro batches, then takes the optimiser's step."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from segpipe.inference.logits import normalize
from segpipe.training.objective import Objective
from segpipe.training.prefetch import DeviceBatch
from segpipe.training.state import TrainState

Observe = Callable[[torch.Tensor, torch.Tensor], None]


def add_gradients(
    module: nn.Module, objective: Objective, batches: Sequence[DeviceBatch], is_half: bool, observe: Observe
) -> float:
    """Adds the gradients of a step to the gradients of the network's parameters.

    Args:
        module: the network, in training mode.
        objective: the loss to minimise; it weights the micro batches.
        batches: the step's micro batches, on the module's device. The network gets one after another.
        is_half: halves height and width of images and masks first.
        observe: called with the logits and the target of each micro batch.

    Returns:
        The step's loss.
    """
    loss = 0.0
    shares = objective.shares_of([_target_of(batch, is_half) for batch in batches])
    for batch, share in zip(batches, shares, strict=True):
        images_NCHW = normalize(batch.images_NHWC)
        if is_half:
            images_NCHW = F.avg_pool2d(images_NCHW, 2)
        value, logits_NCHW = share.of_outputs(module(images_NCHW))
        value.backward()  # type: ignore[no-untyped-call]
        observe(logits_NCHW.detach(), share.target_NHW)
        loss += float(value.detach())
    return loss


def _target_of(batch: DeviceBatch, is_half: bool) -> torch.Tensor:
    target_NHW = batch.masks_NHW.long()
    if not is_half:
        return target_NHW
    height, width = (side // 2 * 2 for side in target_NHW.shape[1:])
    return target_NHW[:, :height:2, :width:2]


def take_step(state: TrainState, max_gradient_norm: float | None) -> None:
    """Takes one optimiser step with the added gradients, and clears them.

    Args:
        state: the training's state.
        max_gradient_norm: clips the norm of the gradients; None for no limit.
    """
    if max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(state.module.parameters(), max_gradient_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.schedule.step()
    if state.average is not None:
        state.average.update_parameters(state.module)
