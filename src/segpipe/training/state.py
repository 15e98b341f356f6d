"""The state of a training: all that its steps change. A checkpoint holds it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from segpipe.config.train import Train
from segpipe.files import whole_file
from segpipe.inference.device import device_of
from segpipe.training.averaging import make_average
from segpipe.training.optim import make_optimizer, make_plateau, make_schedule
from segpipe.training.precision import Precision
from segpipe.training.processes.ranks import ALONE, Ranks


class Stateful(Protocol):
    """A part of the state, with the two methods of torch's modules and optimisers."""

    def state_dict(self) -> dict[str, Any]:
        """Gives the state of the part."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Sets the state of the part."""


@dataclass
class Progress:
    """How far a training is, in plain values.

    Attributes:
        epoch: the current epoch, from 0.
        batch: number of finished batches in it.
        loss_sum: sum over these batches of the losses of their steps.
        train_confusion: the confusion matrix of these batches, as nested lists.
        seconds: that the training has taken, of all its attempts up to their last checkpoints.
        micro_batch: samples that the network sees at once; None for the whole batch.
        best_mean_iou: the highest validation mIoU so far.
        best_epoch: the epoch of `best_mean_iou`.
        history: one row of metrics for each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    train_confusion: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0
    micro_batch: int | None = None
    best_mean_iou: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)

    def halved_to(self, settings: Train) -> int | None:
        """Gives the number of samples at once that short memory has led to; None if it is still that of the settings.

        Args:
            settings: `train` of the training; `micro_batch` is a number or None.
        """
        return None if self.micro_batch == settings.micro_batch else self.micro_batch


class BestWeights:
    """The weights of the best epoch; the checkpoint holds them, because its sha256 protects them from damage."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}

    def keep(self, network: nn.Module) -> None:
        """Copies the current weights of a network to the host, in contiguous layout."""
        tensors = network.state_dict().items()
        self.tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}

    def write(self, path: Path) -> None:
        """Writes the kept weights as safetensors, completely or not at all."""
        with whole_file(path) as temporary:
            # `save` gives bytes, so a full disk is an OSError here and not an error of safetensors.
            temporary.write_bytes(save(self.tensors))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The kept weights by name."""
        return self.tensors

    def load_state_dict(self, state: dict[str, torch.Tensor], /) -> None:
        """Replaces the kept weights."""
        self.tensors = dict(state)


@dataclass
class TrainState:
    """The state of a training.

    Attributes:
        module: the network, on its device.
        replica: the network to call in training: with several processes it adds up the gradients.
        optimizer: the optimiser of the module's parameters.
        schedule: changes the learning rates at each step.
        plateau: lowers the learning rates after validations; None for other schedules.
        average: the moving average of the weights, or None.
        precision: the number format of the passes.
        ranks: the processes of the training.
        best: the weights of the best epoch.
        progress: how far the training is.
    """

    module: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    plateau: ReduceLROnPlateau | None = None
    average: AveragedModel | None = None
    precision: Precision = field(default_factory=lambda: Precision(torch.device("cpu")))
    ranks: Ranks = ALONE
    best: BestWeights = field(default_factory=BestWeights)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.replica = self.ranks.replicate(self.module)

    @staticmethod
    def begin(module: nn.Module, settings: Train, steps_per_epoch: int, ranks: Ranks = ALONE) -> "TrainState":
        """Gives the state of a training before its first step.

        Args:
            module: the network with its initial weights; `freeze` was called with it.
            settings: `train` of the parameters.
            steps_per_epoch: optimiser steps in an epoch.
            ranks: the processes of the training.
        """
        optimizer = make_optimizer(module, settings)
        return TrainState(
            module,
            optimizer,
            make_schedule(optimizer, settings.schedule, settings.epochs * steps_per_epoch, steps_per_epoch),
            make_plateau(optimizer, settings.schedule, settings.validate_every),
            None if settings.ema_decay is None else make_average(module, settings.ema_decay),
            Precision.of(settings.precision, device_of(module)),
            ranks,
        )

    @property
    def network(self) -> nn.Module:
        """The network that is validated and kept: the moving average if there is one, else the module."""
        if self.average is None:
            return self.module
        averaged: nn.Module = self.average.module
        return averaged

    def parts(self) -> dict[str, Stateful]:
        """Gives each part that has a state, by its name in a checkpoint."""
        parts: dict[str, Stateful | None] = {
            "module": self.module,
            "best": self.best,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "plateau": self.plateau,
            "average": self.average,
            "scaler": self.precision.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}
