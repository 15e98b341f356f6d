"""The training loop: `fit` -> `train_one_epoch` -> `add_gradients` and `take_step`, with a validation after the epoch.

Everything that decides the weights is a function of seed, data, parameters and step; so a training that was interrupted
and goes on from its checkpoint ends with the same weights as one that was not.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from segpipe.config.train import Train
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import Store
from segpipe.errors import TrainingError
from segpipe.files import whole_file
from segpipe.inference.evaluate import evaluate
from segpipe.inference.network import normalize, predict_masks
from segpipe.metrics import mean_iou
from segpipe.metrics.evidence.confusion import confusion_matrices
from segpipe.reports.overlay import evenly_spread, side_by_side
from segpipe.training.checkpoint import BestWeights, Progress, load_checkpoint, save_checkpoint, weights_of
from segpipe.training.objective import Objective
from segpipe.training.optim import make_optimizer, make_plateau, make_schedule
from segpipe.training.parameters import freeze, start_training
from segpipe.training.prefetch import DeviceBatch, send_ahead

log = logging.getLogger(__name__)

BEST_WEIGHTS, LAST_WEIGHTS = "best.safetensors", "last.safetensors"
NUM_OVERLAY_EPOCHS = 8
SECONDS_PER_MINUTE = 60


class MetricSink(Protocol):
    """Where a training reports to. `tracking` implements it; the engine knows nothing more."""

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Takes the metrics of a finished epoch (counted from 1)."""

    def log_image(self, name: str, image: npt.NDArray[np.uint8], epoch: int) -> None:
        """Takes a picture (height, width, 3) uint8 RGB of a finished epoch."""


class Interrupted(BaseException):
    """The training was asked to stop; its checkpoint is written."""


@dataclass(frozen=True)
class Fit:
    """All that a training works with.

    Args:
        module: the network, on its device; trained in place, save for what needs no gradient.
        objective: what is minimised.
        train_loader: batches of the training split.
        val_store: the validation split.
        settings: `train` of the parameters.
        device: where the module is.
        folder: takes checkpoints and weights.
        sink: takes metrics and pictures.
        should_stop: asked after each step; True ends the training with a checkpoint.
        clock: seconds that only grow.
    """

    module: nn.Module
    objective: Objective
    train_loader: TrainLoader
    val_store: Store
    settings: Train
    device: torch.device
    folder: Path
    sink: MetricSink
    should_stop: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; the last may have fewer batches than the others."""
        return -(-self.train_loader.batches_per_epoch // self.settings.accumulate_batches)

    def batches_of_step(self, batch: int) -> range:
        """Gives the batches, by their numbers in the epoch, whose mean gradient makes the step that one is part of."""
        accumulate = self.settings.accumulate_batches
        first = batch // accumulate * accumulate
        return range(first, min(first + accumulate, self.train_loader.batches_per_epoch))


def fit(job: Fit) -> Progress:
    """Trains from the beginning, or from the folder's checkpoint, to the last epoch or the early stop.

    Returns:
        The finished progress; `best.safetensors` and `last.safetensors` lie in the job's folder.

    Raises:
        ConfigError: the settings name a part that the network does not have.
        Interrupted: `should_stop` said so.
    """
    settings = job.settings
    freeze(job.module, settings)
    optimizer = make_optimizer(job.module, settings)
    num_steps = settings.epochs * job.steps_per_epoch
    parts: dict[str, Any] = {
        "module": job.module,
        "best": BestWeights(),
        "optimizer": optimizer,
        "schedule": make_schedule(optimizer, settings.schedule, num_steps, job.steps_per_epoch),
    }
    if plateau := make_plateau(optimizer, settings.schedule, settings.validate_every):
        parts["plateau"] = plateau
    if settings.ema_decay is not None:
        parts["average"] = AveragedModel(job.module, multi_avg_fn=_averaging(settings.ema_decay), use_buffers=True)
    progress = load_checkpoint(job.folder, parts)
    if progress.epoch or progress.batch:
        log.info("going on from epoch %d, after %d batches", progress.epoch + 1, progress.batch)
    while progress.epoch < settings.epochs and not _should_stop_early(progress, settings):
        started, first_batch = time.perf_counter(), progress.batch
        train_one_epoch(job, parts, progress)
        seconds = time.perf_counter() - started
        speed = (job.train_loader.batches_per_epoch - first_batch) * settings.batch_size / seconds
        _finish_epoch(job, parts, progress, images_per_second=speed)
    _save_weights(parts["best"].tensors, job.folder / BEST_WEIGHTS)
    _save_weights(weights_of(_network_to_keep(parts)), job.folder / LAST_WEIGHTS)
    return progress


def _averaging(decay: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], torch.Tensor | int], None]:
    """Gives what moves the average towards the network after a step; counts are taken over as they are."""
    move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def average(
        averages: Sequence[torch.Tensor], currents: Sequence[torch.Tensor], num_averaged: torch.Tensor | int
    ) -> None:
        if averages[0].is_floating_point():
            move(averages, currents, num_averaged)
            return
        # torch rounds the average of two counts down, even of equal ones: a frozen part would not stay as it is.
        for average, current in zip(averages, currents, strict=True):
            average.copy_(current)

    return average


def train_one_epoch(job: Fit, parts: dict[str, Any], progress: Progress) -> None:
    """Takes the steps of the epoch under way that are not yet taken."""
    start_training(job.module, job.settings)
    is_half = progress.epoch < job.settings.half_resolution_share * job.settings.epochs
    num_classes = job.val_store.classes.num_classes
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=job.device)
    if progress.batch:
        confusion += torch.tensor(progress.train_confusion, device=job.device)
    batches = send_ahead(job.train_loader.batches(progress.epoch, first_batch=progress.batch), job.device)
    saved_at = job.clock()  # an epoch begins with a checkpoint, or with nothing to lose
    bar = tqdm(
        batches,
        desc=f"epoch {progress.epoch + 1}/{job.settings.epochs}",
        initial=progress.batch,
        total=job.train_loader.batches_per_epoch,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    for batch in bar:
        step = job.batches_of_step(progress.batch)
        loss, batch_confusion = add_gradients(job, batch, is_half, share=1 / len(step))
        if not math.isfinite(loss):
            where = f"epoch {progress.epoch + 1}, batch {progress.batch + 1}"
            raise TrainingError(f"{where}: the loss is {loss}; lower train.learning_rate, or lengthen the warm-up")
        progress.loss_sum += loss
        progress.batch += 1
        confusion += batch_confusion
        bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.3f}")
        if progress.batch != step.stop:
            continue
        take_step(job, parts)
        should_stop = job.should_stop()
        if should_stop or _is_checkpoint_due(job, saved_at):
            progress.train_confusion = confusion.tolist()
            save_checkpoint(job.folder, progress, parts)
            saved_at = job.clock()
        if should_stop:
            raise Interrupted
    progress.train_confusion = confusion.tolist()


def _is_checkpoint_due(job: Fit, saved_at: float) -> bool:
    minutes = job.settings.checkpoint_minutes
    return minutes is not None and job.clock() - saved_at >= minutes * SECONDS_PER_MINUTE


def add_gradients(job: Fit, batch: DeviceBatch, is_half: bool, share: float) -> tuple[float, torch.Tensor]:
    """Adds the gradients of a batch to those that the network's parameters have.

    Args:
        job: the training.
        batch: of the loader, on the device.
        is_half: halves images and masks first.
        share: of the batch in the step's gradient.

    Returns:
        The loss, and the (num_classes, num_classes) confusion matrix of the batch as it was augmented.
    """
    images_NCHW = normalize(batch.images_NHWC)
    target_NHW = batch.masks_NHW.long()
    if is_half:
        images_NCHW = F.avg_pool2d(images_NCHW, 2)
        target_NHW = target_NHW[:, : target_NHW.shape[1] // 2 * 2 : 2, : target_NHW.shape[2] // 2 * 2 : 2]
    loss, logits_NCHW = job.objective.of_outputs(job.module(images_NCHW), target_NHW)
    (share * loss).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        prediction_NHW = logits_NCHW.max(dim=1).indices
        confusion = confusion_matrices(prediction_NHW, target_NHW, logits_NCHW.shape[1]).sum(dim=0)
    return float(loss.detach()), confusion


def take_step(job: Fit, parts: dict[str, Any]) -> None:
    """Takes one optimiser step by the gradients that have been added up, and forgets them."""
    if job.settings.clip_gradient_norm is not None:
        nn.utils.clip_grad_norm_(job.module.parameters(), job.settings.clip_gradient_norm)
    parts["optimizer"].step()
    parts["optimizer"].zero_grad(set_to_none=True)
    parts["schedule"].step()
    if "average" in parts:
        parts["average"].update_parameters(job.module)


def _finish_epoch(job: Fit, parts: dict[str, Any], progress: Progress, images_per_second: float) -> None:
    epoch = progress.epoch + 1
    metrics = {
        "train_loss": progress.loss_sum / job.train_loader.batches_per_epoch,
        "train_mean_iou": _mean_iou(progress.train_confusion),
        "learning_rate": max(group["lr"] for group in parts["optimizer"].param_groups),
    }
    if epoch % job.settings.validate_every == 0 or epoch == job.settings.epochs:
        network = _network_to_keep(parts)
        evaluation = evaluate(network, job.val_store, job.objective, job.device)
        metrics |= {"val_loss": evaluation.loss, "val_mean_iou": evaluation.mean_iou}
        if "plateau" in parts:
            parts["plateau"].step(evaluation.mean_iou)
        if evaluation.mean_iou > progress.best_mean_iou:
            parts["best"].keep(network)
            progress.best_mean_iou, progress.best_epoch = evaluation.mean_iou, epoch
        if epoch % _epochs_between_overlays(job.settings) == 0 or epoch == job.settings.epochs:
            _report_overlays(job, network, epoch)
    progress.history.append({"epoch": epoch, **metrics})
    progress.epoch, progress.batch, progress.loss_sum = epoch, 0, 0.0
    # Reported first: an epoch that is reported twice, around a kill, is known by its number; one that is not is lost.
    job.sink.log_metrics({**metrics, "images_per_second": images_per_second}, epoch)
    save_checkpoint(job.folder, progress, parts)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    log.info("epoch %d/%d  %s  %.1f images/s", epoch, job.settings.epochs, shown, images_per_second)
    if job.should_stop():
        raise Interrupted


def _should_stop_early(progress: Progress, settings: Train) -> bool:
    """Whether the validation mIoU has stood still for too long; asked anew after each validation."""
    was_validated = bool(progress.history) and "val_mean_iou" in progress.history[-1]
    if settings.early_stopping is None or not was_validated:
        return False
    reference, since = -1.0, 0
    for row in progress.history:
        if "val_mean_iou" in row and row["val_mean_iou"] > reference + settings.early_stopping.min_delta:
            reference, since = row["val_mean_iou"], int(row["epoch"])
    return progress.epoch - since >= settings.early_stopping.patience


def _network_to_keep(parts: dict[str, Any]) -> nn.Module:
    """The moving average where there is one, else the network itself."""
    if "average" in parts:
        averaged: nn.Module = parts["average"].module
        return averaged
    module: nn.Module = parts["module"]
    return module


def _save_weights(tensors: dict[str, torch.Tensor], path: Path) -> None:
    with whole_file(path) as temporary:
        # Bytes first: a full disk is then the system's own error, not safetensors'.
        temporary.write_bytes(save(tensors))


def _mean_iou(confusion: list[list[int]]) -> float:
    counts = np.array(confusion, np.int64)
    return mean_iou.compute(counts[None]) if counts.any() else 0.0


def _epochs_between_overlays(settings: Train) -> int:
    step = max(1, settings.epochs // NUM_OVERLAY_EPOCHS)
    return -(-step // settings.validate_every) * settings.validate_every


@torch.inference_mode()
def _report_overlays(job: Fit, network: nn.Module, epoch: int) -> None:
    for index in evenly_spread(len(job.val_store), job.settings.num_overlays):
        image, mask = job.val_store.read(index)
        prediction = predict_masks(network, image[None], job.device)[0]
        picture = side_by_side(image, [mask, prediction], job.val_store.classes)
        job.sink.log_image(str(job.val_store.manifest["sample_id"].iat[index]), picture, epoch)
