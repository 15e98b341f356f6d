"""Evaluates a predictor on every sample of a store; a huge image is evaluated piece by piece."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segpipe.choices import EVIDENCE
from segpipe.data.store import Store
from segpipe.inference.predictor import Predictor
from segpipe.losses.parts.weighted_sum import Loss, WeightedSum
from segpipe.metrics import mean_iou
from segpipe.metrics.evidence import confusion
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.prediction import Masks, Prediction

MAX_BATCH_PX = 1 << 20
CONFUSION = confusion.__name__.rpartition(".")[2]  # imported by its name: a training depends on this kind alone

Terms = Sequence[tuple[float, Loss]]
Collect = Callable[[Prediction, Masks], ImageCounts]


@dataclass(frozen=True)
class Evaluation:
    """The counts and the loss of a network on a set of samples.

    Attributes:
        evidence: by kind, the counts of each sample.
        losses: of each batch; an image with windows is a batch by itself.
    """

    evidence: dict[str, ImageCounts]
    losses: list[float]

    @property
    def loss(self) -> float:
        """The mean loss of the batches."""
        return float(np.mean(self.losses))

    @property
    def confusions(self) -> ImageCounts:
        """Confusion matrices of the samples."""
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
    has_confidence = any(getattr(EVIDENCE.module_of(kind), "NEEDS_CONFIDENCE", False) for kind in kinds)
    evidence: dict[str, list[ImageCounts]] = {kind: [] for kind in kinds}
    losses = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy and OpenCV let other threads run
        for indices in list(_batches(predictor, store))[part]:
            images, masks = zip(*(store.read(index) for index in indices), strict=True)
            masks_NHW = _stack(masks)
            prediction, loss = _predict(predictor, _stack(images), masks_NHW, terms, has_confidence)
            for kind, counts in _collect(prediction, masks_NHW, collect, pool).items():
                evidence[kind].append(counts)
            losses.append(loss)
    return Evaluation({kind: ImageCounts.join(parts) for kind, parts in evidence.items() if parts}, losses)


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


def _predict(
    predictor: Predictor,
    images_NHWC: npt.NDArray[np.uint8],
    masks_NHW: Masks,
    terms: Terms,
    has_confidence: bool,
) -> tuple[Prediction, float]:
    """Gives the prediction and the loss of a batch; an image with windows is a batch by itself.

    Classes and confidence of the pieces of an image are put together in the host's memory. The sums and the weights of
    the losses are added up before the division. So a loss that is a mean over pixels has the value for the whole image.
    """
    classes_NHW = np.empty(masks_NHW.shape, np.uint8)
    confidence_NHW = np.empty(masks_NHW.shape, np.float32) if has_confidence else None
    num_classes = 0
    sums: list[WeightedSum] = []
    for piece in predictor.predict(images_NHWC):
        logits_NCHW, num_classes = piece.logits_NCHW, piece.logits_NCHW.shape[1]
        # max instead of argmax: the same result, ten times as fast on the CPU.
        highest_NHW, class_NHW = logits_NCHW.max(dim=1)
        classes_NHW[piece.place] = class_NHW.to(torch.uint8).cpu().numpy()
        if confidence_NHW is not None:  # softmax of the highest logit alone
            others_NCHW = (logits_NCHW - highest_NHW.unsqueeze(1)).float().exp_()
            confidence_NHW[piece.place] = others_NCHW.sum(dim=1).reciprocal_().cpu().numpy()
        # A copy, because torch needs writable memory, and a memory map is read-only.
        target_NHW = torch.from_numpy(masks_NHW[piece.place].copy()).to(logits_NCHW.device).long()
        of_piece = [loss(logits_NCHW, target_NHW) for _, loss in terms]
        sums = [before + one for before, one in zip(sums, of_piece, strict=True)] if sums else of_piece
    values = [factor * summed.mean() for (factor, _), summed in zip(terms, sums, strict=True)]
    return Prediction(classes_NHW, num_classes, confidence_NHW), float(torch.stack(values).sum())


def _collect(
    prediction: Prediction, masks_NHW: Masks, collect: Mapping[str, Collect], pool: ThreadPoolExecutor
) -> dict[str, ImageCounts]:
    """Gives the evidence of each kind of a batch; images are counted by several threads."""

    def count(index: int) -> list[ImageCounts]:
        one = slice(index, index + 1)
        confidence_NHW = prediction.confidence_NHW
        of_image = Prediction(
            prediction.classes_NHW[one],
            prediction.num_classes,
            None if confidence_NHW is None else confidence_NHW[one],
        )
        return [function(of_image, masks_NHW[one]) for function in collect.values()]

    of_images = pool.map(count, range(len(masks_NHW)))
    return {kind: ImageCounts.join(parts) for kind, parts in zip(collect, zip(*of_images, strict=True), strict=True)}
