"""Optimisers and learning-rate schedules of torch, by name."""

from torch import nn, optim
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from segpipe.config.train import Schedule, Train
from segpipe.training.parameters import factor_of, find_decayed

WARMUP_START = 0.01
SGD_MOMENTUM = 0.9


def make_optimizer(module: nn.Module, settings: Train) -> optim.Optimizer:
    """Makes the optimiser of all trainable parameters; weight decay applies to those of `find_decayed`."""
    decayed = find_decayed(module)
    parameters: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            weight_decay = settings.weight_decay if name in decayed else 0.0
            factor = factor_of(name, settings.learning_rate_factors)
            parameters.setdefault((factor, weight_decay), []).append(parameter)
    rate = settings.learning_rate
    groups = [
        {"params": group, "lr": factor * rate, "weight_decay": weight_decay}
        for (factor, weight_decay), group in parameters.items()
    ]
    if settings.optimizer == "rmsprop":
        return optim.RMSprop(groups, lr=rate, momentum=settings.momentum or 0.0)
    # Fused: one kernel for all parameters, which also takes the place of several passes over memory.
    if settings.optimizer == "sgd":
        momentum = SGD_MOMENTUM if settings.momentum is None else settings.momentum
        # In fp16 the first step may be left out; the fused kernel then goes on from momenta that were never written.
        return optim.SGD(groups, lr=rate, momentum=momentum, fused=settings.precision != "fp16")
    kind = optim.Adam if settings.optimizer == "adam" else optim.AdamW
    return kind(groups, lr=rate, fused=True)


def make_schedule(optimizer: optim.Optimizer, settings: Schedule, num_steps: int, steps_per_epoch: int) -> LRScheduler:
    """Makes the schedule, to be stepped after each of `num_steps` optimiser steps.

    All rates rise linearly during the warm-up. Then:

    - `cosine` falls to zero along half a cosine (Loshchilov, Hutter, "SGDR", ICLR 2017, equation 5 without restarts).
    - `poly` falls as (1 - progress) ** power (Chen et al., "DeepLab", TPAMI 2018, section 4.1).
    - `exponential` falls by its factor in each epoch, a little at each step.
    - `step` falls by its factor at each milestone, which is a share of all steps, warm-up included.
    - `constant` stays. `plateau` stays too, until `make_plateau` lowers it.
    - `one_cycle` rises and falls along cosines (Smith, Topin, arXiv:1708.07120); the momentum does not change.
    """
    if settings.name == "one_cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        # torch divides by the number of rising steps minus one, so a rise of one step is left out.
        rise = settings.warmup_share if settings.warmup_share * num_steps > 1 else 0.0
        return OneCycleLR(optimizer, highest, total_steps=num_steps, pct_start=rise, cycle_momentum=False)
    num_warmup_steps = min(round(settings.warmup_share * num_steps), num_steps - 1)
    if settings.name == "plateau":
        # No SequentialLR: it would overwrite the rates that the plateau has lowered.
        return LinearLR(optimizer, WARMUP_START if num_warmup_steps else 1.0, total_iters=num_warmup_steps)
    main = _make_main_schedule(optimizer, settings, num_steps, num_warmup_steps, steps_per_epoch)
    if num_warmup_steps == 0:
        return main
    rising = LinearLR(optimizer, start_factor=WARMUP_START, total_iters=num_warmup_steps)
    return SequentialLR(optimizer, [rising, main], milestones=[num_warmup_steps])


def _make_main_schedule(
    optimizer: optim.Optimizer, settings: Schedule, num_steps: int, num_warmup_steps: int, steps_per_epoch: int
) -> LRScheduler:
    num_main_steps = num_steps - num_warmup_steps
    if settings.name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=num_main_steps)
    if settings.name == "poly":
        return PolynomialLR(optimizer, total_iters=num_main_steps, power=settings.power)
    if settings.name == "constant":
        return ConstantLR(optimizer, factor=1.0)
    assert settings.factor is not None, "the configuration requires it"
    if settings.name == "exponential":
        return ExponentialLR(optimizer, gamma=settings.factor ** (1 / steps_per_epoch))
    milestones = (round(share * num_steps) - num_warmup_steps for share in settings.milestones or ())
    return MultiStepLR(optimizer, sorted(max(0, step) for step in milestones), settings.factor)


def make_plateau(optimizer: optim.Optimizer, settings: Schedule, validate_every: int) -> ReduceLROnPlateau | None:
    """Makes the scheduler that lowers the rates if the validation mIoU does not improve; step it with each mIoU.

    Returns:
        None if the schedule is not `plateau`.
    """
    if settings.name != "plateau":
        return None
    assert settings.factor is not None and settings.patience is not None, "the configuration requires them"
    # Rounded up: the rate stays for at least `patience` epochs.
    num_validations = -(-settings.patience // validate_every)
    # torch waits for `patience` validations and lowers the rate at the next one.
    return ReduceLROnPlateau(
        optimizer, mode="max", factor=settings.factor, patience=num_validations - 1, threshold=0.0, threshold_mode="abs"
    )
