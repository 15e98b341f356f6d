"""The training loop: `fit` -> `train_one_epoch` -> the steps, with a validation after the epoch.

The weights depend only on seed, data, parameters and step. So a training that was interrupted and goes on from its
checkpoint ends with the same weights as an uninterrupted one.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segpipe.config.train import Train
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import Store, evenly_spread
from segpipe.errors import TrainingError
from segpipe.inference.device import device_of
from segpipe.inference.predictor import Predictor
from segpipe.training.checkpoint import CheckpointWriter, load_checkpoint
from segpipe.training.meter import Meter, mean_iou_of
from segpipe.training.objective import Objective
from segpipe.training.pace import Pace
from segpipe.training.parameters import freeze, recompute, start_training
from segpipe.training.prefetch import DeviceBatch, Maps, send_ahead
from segpipe.training.processes.ranks import ALONE, Ranks
from segpipe.training.state import Progress, TrainState
from segpipe.training.step import add_gradients, halve_masks, take_step
from segpipe.training.validation import validate

log = logging.getLogger(__name__)

BEST_WEIGHTS = "best.safetensors"
NUM_OVERLAY_EPOCHS = 8
SECONDS_PER_MINUTE, SECONDS_PER_HOUR = 60, 3600
# What the line of an epoch says, in 80 columns: loss and mIoU of training, then of validation.
SHOWN = {"train_loss": "loss", "train_mean_iou": "mIoU", "val_loss": "val", "val_mean_iou": "mIoU"}
NUM_STEPS_BETWEEN_LOOKS = 20  # to look at the loss makes the host wait for the device
# What happens after a step. Of several processes each votes, and the highest vote counts.
GO_ON, SAVE, STOP = range(3)


class MetricSink(Protocol):
    """Receives the metrics and predictions of a training. `tracking` implements it."""

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Takes the metrics of a finished epoch (counted from 1)."""

    def log_prediction(
        self,
        name: str,
        image: npt.NDArray[np.uint8],
        truth: npt.NDArray[np.uint8],
        prediction: npt.NDArray[np.uint8],
        epoch: int,
    ) -> None:
        """Takes the prediction for a validation sample after an epoch.

        Args:
            name: the sample's name.
            image: (height, width, 3) uint8 RGB.
            truth: (height, width) uint8 class indices, void = 255.
            prediction: (height, width) uint8 class indices.
            epoch: counted from 1.
        """


class Interrupted(BaseException):
    """The training was asked to stop and has written its checkpoint."""


@dataclass(frozen=True)
class Fit:
    """The inputs of a training.

    Args:
        module: the network, on its device; trained in place, except parameters without gradient.
        objective: the loss to minimise.
        train_loader: batches of the training split.
        val_store: the validation split.
        settings: `train` of the parameters.
        folder: the folder for checkpoints and weights.
        sink: receives metrics and predictions; None in processes that do not report.
        should_stop: called after each step; True ends the training with a checkpoint.
        clock: monotonic seconds.
        ranks: the processes of the training; the first one writes and reports.
    """

    module: nn.Module
    objective: Objective
    train_loader: TrainLoader
    val_store: Store
    settings: Train
    folder: Path
    sink: MetricSink | None
    should_stop: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    ranks: Ranks = ALONE

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; the last may have fewer batches than the others."""
        return -(-self.train_loader.batches_per_epoch // self.settings.accumulate_batches)

    @property
    def samples_here(self) -> int:
        """The most samples that one process has of a batch."""
        return -(-self.train_loader.samples_per_batch // self.ranks.number)

    def is_half(self, epoch: int) -> bool:
        """Whether the network sees the samples of an epoch, counted from 0, at half height and width."""
        return epoch < self.settings.half_resolution_share * self.settings.epochs

    def steps(self, epoch: int, first_batch: int) -> Iterator[list[DeviceBatch]]:
        """Gives the batches of each step of an epoch, beginning with the step that has this first batch."""

        def draw(masks_NHW: torch.Tensor) -> Maps:
            return self.objective.draw(halve_masks(masks_NHW) if self.is_half(epoch) else masks_NHW)

        loaded = self.train_loader.batches(epoch, first_batch=first_batch)
        batches = send_ahead(loaded, device_of(self.module), draw if self.objective.draws_ahead else None)
        while step := list(itertools.islice(batches, self.settings.accumulate_batches)):
            yield step


def fit(job: Fit) -> Progress:
    """Trains from the beginning, or from the folder's checkpoint, to the last epoch or the early stop.

    Returns:
        The finished progress; `best.safetensors` lies in the job's folder.

    Raises:
        ConfigError: the settings name a part that the network does not have.
        TrainingError: the loss is not finite, or the validation split has no labelled pixel.
        Interrupted: `should_stop` returned True.
    """
    settings = job.settings
    freeze(job.module, settings)
    state = TrainState.begin(job.module, settings, job.steps_per_epoch, job.ranks)
    recompute(job.module, settings)  # after the average has copied the network
    load_checkpoint(job.folder, state)
    progress = state.progress
    if progress.micro_batch is None and settings.micro_batch != "auto":
        progress.micro_batch = settings.micro_batch
    if progress.epoch or progress.batch:
        log.info("going on from epoch %d, after %d batches", progress.epoch + 1, progress.batch)
    batches_per_epoch = job.train_loader.batches_per_epoch
    num_done = progress.epoch * batches_per_epoch + progress.batch
    with (
        CheckpointWriter(job.folder) as checkpoints,
        Pace(
            settings.epochs, batches_per_epoch, settings.batch_size, num_done, progress.seconds, job.ranks.is_first
        ) as pace,
    ):
        while progress.epoch < settings.epochs and not _should_stop_early(progress, settings):
            train_one_epoch(job, state, checkpoints, pace)
            _finish_epoch(job, state, checkpoints, pace)
    if job.ranks.is_first:
        state.best.write(job.folder / BEST_WEIGHTS)
    return progress


def train_one_epoch(job: Fit, state: TrainState, checkpoints: CheckpointWriter, pace: Pace) -> None:
    """Takes the remaining steps of the current epoch."""
    settings, progress = job.settings, state.progress
    start_training(job.module, settings)
    is_half = job.is_half(progress.epoch)
    meter = Meter(job.val_store.classes.num_classes, progress, device_of(job.module), job.ranks)
    saved_at = job.clock()  # at its start an epoch has a checkpoint, or no steps to lose
    pace.start_epoch(progress.epoch)
    for number, batches in enumerate(pace.watch(job.steps(progress.epoch, progress.batch)), start=1):
        loss = _add_gradients_that_fit(job, state, batches, is_half, meter)
        progress.batch += len(batches)
        meter.add_loss(loss, len(batches))
        take_step(state, settings.clip_gradient_norm)
        if number % NUM_STEPS_BETWEEN_LOOKS == 0:
            meter.read_loss()
            pace.show_loss(progress.loss_sum / progress.batch)
        pace.advance(len(batches))
        decision = job.ranks.highest(_vote(job, saved_at))
        if decision >= SAVE:
            meter.read()
            progress.seconds = pace.seconds
            checkpoints.save(state)
            saved_at = job.clock()
        if decision == STOP:
            raise Interrupted
    meter.read()


def _add_gradients_that_fit(
    job: Fit, state: TrainState, batches: list[DeviceBatch], is_half: bool, meter: Meter
) -> torch.Tensor:
    """Adds the gradients of a step; where memory is short, again with half as many samples at once.

    Raises:
        TrainingError: memory is short, and no smaller part can be taken.
    """
    progress = state.progress
    while True:
        # The same number in each process, or they would wait for each other's sums.
        number = -(-job.samples_here // (progress.micro_batch or job.samples_here))
        parts = [part for batch in batches for part in batch.split(number)]
        try:
            return add_gradients(state, job.objective, parts, is_half, meter.observe)
        except torch.OutOfMemoryError as error:
            num_at_once = max(len(part.masks_NHW) for part in parts)
            if progress.micro_batch is None or num_at_once == 1 or job.ranks.number > 1:
                raise TrainingError(_explain_memory(num_at_once, progress.micro_batch is None)) from error
        # Here, because the exception holds the tensors of the step.
        state.optimizer.zero_grad(set_to_none=True)
        meter.forget_step()
        torch.accelerator.memory.empty_cache()
        progress.micro_batch = half = -(-num_at_once // 2)
        log.warning("the memory is too short for %d samples at once; from here on %d", num_at_once, half)


def _explain_memory(num_at_once: int, is_auto_new: bool) -> str:
    smaller = f"write train.micro_batch: {num_at_once // 2}{', or auto' if is_auto_new else ''}"
    fix = smaller if num_at_once > 1 else "name parts in train.recompute, or lower train.augment.crop"
    return f"the device's memory is too short for {num_at_once} samples at once; {fix}, then run it again"


def _vote(job: Fit, saved_at: float) -> int:
    if job.should_stop():
        return STOP
    minutes = job.settings.checkpoint_minutes
    return SAVE if minutes is not None and job.clock() - saved_at >= minutes * SECONDS_PER_MINUTE else GO_ON


def _finish_epoch(job: Fit, state: TrainState, checkpoints: CheckpointWriter, pace: Pace) -> None:
    progress, settings = state.progress, job.settings
    epoch, speed = progress.epoch + 1, pace.measure()
    progress.seconds = pace.seconds
    metrics = {
        "train_loss": progress.loss_sum / job.train_loader.batches_per_epoch,
        "train_mean_iou": mean_iou_of(progress.train_confusion),
        "learning_rate": max(group["lr"] for group in state.optimizer.param_groups),
    }
    if epoch % settings.validate_every == 0 or epoch == settings.epochs:
        metrics |= _validate(job, state, epoch)
    progress.history.append({"epoch": epoch, **metrics})
    progress.epoch, progress.batch, progress.loss_sum, progress.train_confusion = epoch, 0, 0.0, []
    # Before the checkpoint: after a kill an epoch may be reported twice, which its number shows; it is never lost.
    if job.sink is not None:
        device_hours = progress.seconds * job.ranks.number / SECONDS_PER_HOUR
        job.sink.log_metrics({**metrics, **speed, "device_hours": device_hours}, epoch)
    checkpoints.save(state)
    shown = "  ".join(f"{name} {metrics[key]:.3f}" for key, name in SHOWN.items() if key in metrics)
    left = pace.time_left(epoch)
    log.info("epoch %d/%d  %s  %.1f images/s  %s left", epoch, settings.epochs, shown, speed["images_per_second"], left)
    if job.ranks.highest(STOP if job.should_stop() else GO_ON) == STOP:
        raise Interrupted


def _validate(job: Fit, state: TrainState, epoch: int) -> dict[str, float]:
    """Validates the network (or its average), keeps its weights if they are the best so far, and gives the metrics."""
    mean_iou, loss = validate(state.network, job.val_store, job.objective.terms, job.ranks)
    if math.isnan(mean_iou):
        raise TrainingError(
            f"epoch {epoch}: there is no validation mIoU, because none of the {len(job.val_store)} validation samples "
            "has a labelled pixel, so no epoch can be the best; name labelled samples in preprocess.split.val"
        )
    if state.plateau is not None:
        state.plateau.step(mean_iou)
    if mean_iou > state.progress.best_mean_iou:
        state.best.keep(state.network)
        state.progress.best_mean_iou, state.progress.best_epoch = mean_iou, epoch
    is_drawn = epoch % _epochs_between_overlays(job.settings) == 0 or epoch == job.settings.epochs
    if job.sink is not None and is_drawn:
        _report_predictions(job, job.sink, state.network, epoch)
    return {"val_loss": loss, "val_mean_iou": mean_iou}


def _should_stop_early(progress: Progress, settings: Train) -> bool:
    """Whether the validation mIoU has not improved for too long; called after each validation."""
    was_validated = bool(progress.history) and "val_mean_iou" in progress.history[-1]
    if settings.early_stopping is None or not was_validated:
        return False
    reference, since = -1.0, 0
    for row in progress.history:
        if "val_mean_iou" in row and row["val_mean_iou"] > reference + settings.early_stopping.min_delta:
            reference, since = row["val_mean_iou"], int(row["epoch"])
    return progress.epoch - since >= settings.early_stopping.patience


def _epochs_between_overlays(settings: Train) -> int:
    step = max(1, settings.epochs // NUM_OVERLAY_EPOCHS)
    return -(-step // settings.validate_every) * settings.validate_every


def _report_predictions(job: Fit, sink: MetricSink, network: nn.Module, epoch: int) -> None:
    predictor = Predictor(network)
    for index in evenly_spread(len(job.val_store), job.settings.num_overlays):
        image, truth = job.val_store.read(index)
        name = str(job.val_store.manifest["sample_id"].iat[index])
        sink.log_prediction(name, image, truth, predictor.predict_masks(image[None])[0], epoch)
