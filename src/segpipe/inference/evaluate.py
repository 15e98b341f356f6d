"""Evaluates a predictor on every sample of a store; a huge image is evaluated piece by piece."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segpipe.choices import EVIDENCE
from segpipe.data.store import Store
from segpipe.inference.predictor import Predictor
from segpipe.losses.parts.weighted_sum import Loss, WeightedSum
from segpipe.metrics import mean_iou

MAX_BATCH_PX = 1 << 20
CONFUSION = "confusion"

Terms = Sequence[tuple[float, Loss]]
Collect = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """The counts and the loss of a network on a set of samples.

    Attributes:
        evidence: by kind, the counts of each sample, (num_samples, ...).
        losses: of each batch; an image with windows is a batch by itself.
    """

    evidence: dict[str, npt.NDArray[Any]]
    losses: list[float]

    @property
    def loss(self) -> float:
        """The mean loss of the batches."""
        return float(np.mean(self.losses))

    @property
    def confusions(self) -> npt.NDArray[np.int64]:
        """Pixel counts of each sample, (num_samples, num_classes, num_classes); rows are truth."""
        return self.evidence[CONFUSION]

    @property
    def mean_iou(self) -> float:
        """The mean IoU of the whole set, 0..1; NaN if no pixel is labelled."""
        return mean_iou.compute(self.confusions)


@torch.inference_mode()
def evaluate(
    predictor: Predictor, store: Store, terms: Terms, kinds: Sequence[str] = (CONFUSION,), part: slice = slice(None)
) -> Evaluation:
    """Predicts each sample and counts its pixels for the metrics.

    Args:
        predictor: its network in any mode; afterwards in evaluation mode.
        store: the samples; at least one.
        terms: factors and losses; the loss is their weighted sum.
        kinds: the kinds of evidence that the metrics need, confusion matrices included.
        part: of the batches; the others are left out. A part without a batch has no evidence.
    """
    predictor.module.eval()
    collect = {kind: EVIDENCE.function_of(kind) for kind in kinds}
    evidence: dict[str, list[npt.NDArray[Any]]] = {kind: [] for kind in kinds}
    losses = []
    for indices in list(_batches(predictor, store))[part]:
        images, masks = zip(*(store.read(index) for index in indices), strict=True)
        counted, loss = _measure(predictor, _stack(images), _stack(masks), terms, collect)
        for kind, counts in counted.items():
            evidence[kind].append(counts)
        losses.append(loss)
    return Evaluation({kind: np.concatenate(parts) for kind, parts in evidence.items() if parts}, losses)


def _batches(predictor: Predictor, store: Store) -> Iterator[list[int]]:
    """Gives the indices of all samples in order: neighbours of one size together, an image with windows alone."""
    sizes = list(zip(store.manifest["height"].tolist(), store.manifest["width"].tolist(), strict=True))
    largest_px = max((height * width for height, width in sizes if predictor.predicts_whole(height, width)), default=1)
    batch_size = max(1, MAX_BATCH_PX // largest_px)
    batch: list[int] = []
    for index, size in enumerate(sizes):
        if batch and (len(batch) == batch_size or size != sizes[batch[0]] or not predictor.predicts_whole(*size)):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _stack(arrays: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Stacks arrays of one shape; a single array, which may be huge, is not copied."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _measure(
    predictor: Predictor,
    images_NHWC: npt.NDArray[np.uint8],
    masks_NHW: npt.NDArray[np.uint8],
    terms: Terms,
    collect: Mapping[str, Collect],
) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Gives the evidence (N, ...) of each kind and the loss of a batch; an image with windows is a batch by itself.

    The counts of the pieces of an image are added up. The sums and the weights of the losses are added up too, before
    the division. So a loss that is a mean over pixels has the value for the whole image.
    """
    counted: dict[str, npt.NDArray[Any]] = {}
    sums: list[WeightedSum] = []
    for piece in predictor.predict(images_NHWC):
        # A copy, because torch needs writable memory, and a memory map is read-only.
        target_NHW = torch.from_numpy(masks_NHW[piece.place].copy()).to(piece.logits_NCHW.device)
        for kind, function in collect.items():
            counts = function(piece.logits_NCHW, target_NHW).cpu().numpy()
            counted[kind] = counted[kind] + counts if kind in counted else counts
        of_piece = [loss(piece.logits_NCHW, target_NHW.long()) for _, loss in terms]
        sums = [before + one for before, one in zip(sums, of_piece, strict=True)] if sums else of_piece
    values = [factor * summed.mean() for (factor, _), summed in zip(terms, sums, strict=True)]
    return counted, float(torch.stack(values).sum())
