"""Measures a network on every sample of a store: whole, or tile by tile where an image is huge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segpipe.choices import EVIDENCE
from segpipe.data.store import Store
from segpipe.inference.logits import give_logits
from segpipe.inference.tiles import is_huge
from segpipe.losses.parts.weighted_sum import Loss, WeightedSum
from segpipe.metrics import mean_iou

MAX_BATCH_PX = 1 << 20
CONFUSION = "confusion"

Terms = Sequence[tuple[float, Loss]]
Collect = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a set of samples.

    Attributes:
        evidence: by kind, what was counted in each sample, (num_samples, ...).
        loss: mean over the batches; a huge image is one.
    """

    evidence: dict[str, npt.NDArray[Any]]
    loss: float

    @property
    def confusions(self) -> npt.NDArray[np.int64]:
        """Pixel counts of each sample, (num_samples, num_classes, num_classes); rows are truth."""
        return self.evidence[CONFUSION]

    @property
    def mean_iou(self) -> float:
        """Of the whole set, 0..1; NaN without one labelled pixel."""
        return mean_iou.compute(self.confusions)


@torch.inference_mode()
def evaluate(module: nn.Module, store: Store, terms: Terms, kinds: Sequence[str] = (CONFUSION,)) -> Evaluation:
    """Predicts each sample and counts what happens to its pixels.

    Args:
        module: in any mode; left in evaluation mode.
        store: the samples; at least one.
        terms: factors and losses, of which the weighted sum is the loss.
        kinds: of evidence, as the metrics ask for it; the confusion matrices are among them.
    """
    module.eval()
    collect = {kind: EVIDENCE.function_of(kind) for kind in kinds}
    evidence: dict[str, list[npt.NDArray[Any]]] = {kind: [] for kind in kinds}
    losses = []
    for indices in _batches(store):
        images, masks = zip(*(store.read(index) for index in indices), strict=True)
        counted, loss = _measure(module, _stack(images), _stack(masks), terms, collect)
        for kind, counts in counted.items():
            evidence[kind].append(counts)
        losses.append(loss)
    return Evaluation({kind: np.concatenate(parts) for kind, parts in evidence.items()}, float(np.mean(losses)))


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


def _stack(arrays: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Puts arrays of one shape together; of a single one, which may be huge, no copy is made."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _measure(
    module: nn.Module,
    images_NHWC: npt.NDArray[np.uint8],
    masks_NHW: npt.NDArray[np.uint8],
    terms: Terms,
    collect: Mapping[str, Collect],
) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Gives the evidence (N, ...) of each kind and the loss of a batch, which a huge image is alone.

    What the pieces of an image count is added up. So are the sums and weights of the losses, before one is divided by
    the other: where a loss is a mean over pixels that is the loss of the whole.
    """
    counted: dict[str, npt.NDArray[Any]] = {}
    sums: list[WeightedSum] = []
    for piece in give_logits(module, images_NHWC):
        # A copy: torch wants memory that may be written; a map may not.
        target_NHW = torch.from_numpy(masks_NHW[piece.place].copy()).to(piece.logits_NCHW.device)
        for kind, function in collect.items():
            counts = function(piece.logits_NCHW, target_NHW).cpu().numpy()
            counted[kind] = counted[kind] + counts if kind in counted else counts
        of_piece = [loss(piece.logits_NCHW, target_NHW.long()) for _, loss in terms]
        sums = [before + one for before, one in zip(sums, of_piece, strict=True)] if sums else of_piece
    values = [factor * summed.mean() for (factor, _), summed in zip(terms, sums, strict=True)]
    return counted, float(torch.stack(values).sum())
