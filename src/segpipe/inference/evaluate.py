"""Measures a network on every sample of a store: whole, or tile by tile where an image is huge."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segpipe.classes import IGNORE_INDEX
from segpipe.data.store import Store
from segpipe.inference.network import logits_of_tile, to_input
from segpipe.inference.tiles import is_huge, plan_tiles
from segpipe.metrics import mean_iou
from segpipe.metrics.evidence.confusion import confusion_matrices

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MAX_BATCH_PX = 1 << 20


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a set of samples.

    Attributes:
        confusions: (num_samples, num_classes, num_classes) int64 pixel counts of each sample; rows are truth.
        loss: mean over the batches; a huge image is one.
    """

    confusions: npt.NDArray[np.int64]
    loss: float

    @property
    def mean_iou(self) -> float:
        """Of the whole set, 0..1; NaN without one labelled pixel."""
        return mean_iou.compute(self.confusions)


@torch.inference_mode()
def evaluate(module: nn.Module, store: Store, loss: Loss, device: torch.device) -> Evaluation:
    """Predicts each sample and counts its pixels.

    Args:
        module: in any mode; left in evaluation mode.
        store: the samples; at least one.
        loss: of logits and targets.
        device: where the module is.
    """
    module.eval()
    confusions, losses = [], []
    for indices in _batches(store):
        images, masks = zip(*(store.read(index) for index in indices), strict=True)
        if is_huge(*masks[0].shape):
            confusion, batch_loss = _measure_tiles(module, images[0], masks[0], loss, device)
        else:
            confusion, batch_loss = _measure(module(to_input(np.stack(images), device)), np.stack(masks), loss)
        confusions.append(confusion)
        losses.append(batch_loss)
    return Evaluation(np.concatenate(confusions), float(np.mean(losses)))


def _batches(store: Store) -> Iterator[list[int]]:
    """Gives the indices of all samples in order: neighbours of one size together, a huge image alone."""
    sizes = list(zip(store.manifest["height"].tolist(), store.manifest["width"].tolist(), strict=True))
    largest_px = max((height * width for height, width in sizes if not is_huge(height, width)), default=1)
    batch_size = max(1, MAX_BATCH_PX // largest_px)
    batch: list[int] = []
    for index, size in enumerate(sizes):
        if batch and (len(batch) == batch_size or size != sizes[batch[0]] or is_huge(*size)):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _measure(
    logits_NCHW: torch.Tensor, masks_NHW: npt.NDArray[np.uint8], loss: Loss
) -> tuple[npt.NDArray[np.int64], float]:
    """Gives the (N, num_classes, num_classes) confusion matrices and the loss of a batch."""
    target_NHW = torch.from_numpy(masks_NHW).to(logits_NCHW.device)
    # max, not argmax: ten times as fast on the CPU, and the same.
    prediction_NHW = logits_NCHW.max(dim=1).indices
    confusion = confusion_matrices(prediction_NHW, target_NHW, num_classes=logits_NCHW.shape[1]).cpu().numpy()
    return confusion, float(loss(logits_NCHW, target_NHW.long()))


def _measure_tiles(
    module: nn.Module,
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    loss: Loss,
    device: torch.device,
) -> tuple[npt.NDArray[np.int64], float]:
    """Gives the (1, num_classes, num_classes) confusion matrix and the loss of a huge image.

    The tiles' losses are weighed by their labelled pixels. For a mean over pixels that is the loss of the whole; with
    class weights, of which each tile holds another share, and for Dice it is near to it.
    """
    confusions, losses, num_labelled_px = [], [], []
    for tile in plan_tiles(*mask.shape):
        core_NHW = mask[tile.core][None].copy()  # torch wants memory that may be written; a map may not
        confusion, tile_loss = _measure(logits_of_tile(module, image, tile, device), core_NHW, loss)
        confusions.append(confusion)
        losses.append(tile_loss)
        num_labelled_px.append(np.count_nonzero(core_NHW != IGNORE_INDEX))
    return np.sum(confusions, axis=0), float(np.dot(losses, num_labelled_px)) / max(1, sum(num_labelled_px))
