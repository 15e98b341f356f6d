"""Optimisers and learning-rate schedules by name; all of them torch's own."""

from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, PolynomialLR, SequentialLR

from segpipe.config import Schedule, Train

WARMUP_START = 0.01


def make_optimizer(module: nn.Module, settings: Train) -> optim.Optimizer:
    """Makes SGD or AdamW; biases and normalisation layers (one dimension) are not decayed."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return optim.AdamW(groups, lr=settings.learning_rate)


def make_schedule(optimizer: optim.Optimizer, settings: Schedule, num_steps: int) -> LRScheduler:
    """Makes the schedule, to be stepped after each of `num_steps` optimiser steps.

    `cosine` and `poly` rise linearly over the warm-up, then fall to zero: SGDR's half cosine (Loshchilov, Hutter, ICLR
    2017, equation 5 without restarts) or (1 - progress) ** power (Chen et al., "DeepLab", TPAMI 2018, section 4.1).
    `one_cycle` rises and falls on cosines (Smith, Topin, arXiv:1708.07120), momentum left alone.
    """
    if settings.name == "one_cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        # torch divides by the steps of the rise less one: so short a rise is left out.
        rise = settings.warmup_share if settings.warmup_share * num_steps > 1 else 0.0
        return OneCycleLR(optimizer, highest, total_steps=num_steps, pct_start=rise, cycle_momentum=False)
    num_warmup_steps = min(round(settings.warmup_share * num_steps), num_steps - 1)
    num_falling_steps = num_steps - num_warmup_steps
    falling: LRScheduler = (
        CosineAnnealingLR(optimizer, T_max=num_falling_steps)
        if settings.name == "cosine"
        else PolynomialLR(optimizer, total_iters=num_falling_steps, power=settings.power)
    )
    if num_warmup_steps == 0:
        return falling
    rising = LinearLR(optimizer, start_factor=WARMUP_START, total_iters=num_warmup_steps)
    return SequentialLR(optimizer, [rising, falling], milestones=[num_warmup_steps])
