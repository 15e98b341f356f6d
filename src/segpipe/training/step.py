"""One step of a training: the gradients of its micro batches, added up, and the optimiser's step by them."""

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
    """Adds the gradients of a step to those that the network's parameters have.

    Args:
        module: in training mode.
        objective: what is minimised; it weighs the micro batches.
        batches: the step's micro batches, on the module's device. The network sees one after another.
        is_half: halves images and masks first.
        observe: is shown the logits and the target of each micro batch.

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
    """Takes one optimiser step by the gradients that have been added up, and forgets them.

    Args:
        state: of the training.
        max_gradient_norm: longer gradients are shortened to it; None for none.
    """
    if max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(state.module.parameters(), max_gradient_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.schedule.step()
    if state.average is not None:
        state.average.update_parameters(state.module)
