"""Activation checkpointing: a training keeps only the inputs of a module, and computes the rest again in backward.

Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174; torch's implementation.
torch runs the module a second time in the backward pass. Two things must not happen twice: random numbers are restored
by torch, so that dropout drops the same values; the running statistics of batch norm are shielded here.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def always_checkpointed(module: nn.Module) -> None:
    """Lets a module run as by `run_checkpointed` from now on, whoever calls it.

    Args:
        module: any part of a network; its names and its results stay the same.
    """
    module.forward = functools.partial(_run, module, module.forward)


def run_checkpointed(module: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """Runs a module so that a training keeps only its inputs; gradients and buffers are the same as without this.

    The memory is saved in training mode with gradients; otherwise this is a plain call.

    The second run ends as soon as it has all that the gradients need. So a convolution that comes last in the module is
    not computed again; a dropout or pooling behind it would be, and the convolution with it.

    Args:
        module: its forward gives one tensor. What it changes in a forward pass must be buffers.
        inputs: float tensors of any shape.
    """
    output: torch.Tensor = _run(module, module, *inputs)
    return output


def _run(module: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """Runs `forward`, which is the module or its forward function."""

    def give_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _shield_buffers(module)

    if not (module.training and torch.is_grad_enabled()):
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=give_contexts, **options)


@contextmanager
def _shield_buffers(module: nn.Module) -> Iterator[None]:
    """Lets a module change copies of its buffers, and restores the buffers afterwards.

    Copies, because a batch norm without running statistics saves fewer tensors for the backward pass, and torch checks
    that both runs save the same.
    """
    shielded = [
        (owner, name, buffer) for owner in module.modules() for name, buffer in owner.named_buffers(recurse=False)
    ]
    for owner, name, buffer in shielded:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in shielded:
            setattr(owner, name, buffer)
