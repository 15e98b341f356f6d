"""Predicts pictures in batches of equal size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segpipe.inference.logits import most_likely
from segpipe.inference.predictor import Piece, Predictor
from segpipe.prediction.inputs import Skipped
from segpipe.prediction.reading import Scene

MAX_BATCH_PX = 1 << 22  # as many as the largest image that is predicted whole
MAX_HELD_PX = 1 << 25  # of pictures that wait for others of their size
BYTES_PER_PX = 4  # of picture and mask
CERTAIN = 255
NO_CPU_MEMORY = "DefaultCPUAllocator: can't allocate memory"


@dataclass(frozen=True)
class Wanted:
    """What is computed in addition to the mask.

    Attributes:
        confidence: the probability of the mask's class.
        probabilities: of all classes.
    """

    confidence: bool = False
    probabilities: bool = False


@dataclass(frozen=True)
class Predicted:
    """A prediction.

    Attributes:
        scene: the picture.
        mask: (height, width) uint8 class indices.
        confidence: (height, width) uint8: the probability of the mask's class, 0..255; None if not wanted.
        probabilities_CHW: (num_classes, height, width) float16, 0..1; None if not wanted.
    """

    scene: Scene
    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None = None
    probabilities_CHW: npt.NDArray[np.float16] | None = None

    @property
    def held_px(self) -> int:
        """What it costs to hold: the pixels of a picture with mask that takes at least as much memory."""
        num_px = self.scene.num_px
        return num_px + (0 if self.probabilities_CHW is None else self.probabilities_CHW.nbytes // BYTES_PER_PX)


@dataclass(frozen=True)
class _Outputs:
    """The arrays of a batch, which are filled piece by piece."""

    masks_NHW: npt.NDArray[np.uint8]
    confidence_NHW: npt.NDArray[np.uint8] | None
    probabilities_NCHW: npt.NDArray[np.float16] | None

    def fill(self, piece: Piece) -> None:
        self.masks_NHW[piece.place] = most_likely(piece.logits_NCHW).to(torch.uint8).cpu().numpy()
        if self.confidence_NHW is None and self.probabilities_NCHW is None:
            return
        probabilities_NCHW = piece.probabilities_NCHW
        if self.confidence_NHW is not None:
            highest_NHW = probabilities_NCHW.amax(dim=1).mul_(CERTAIN).round_()
            self.confidence_NHW[piece.place] = highest_NHW.to(torch.uint8).cpu().numpy()
        if self.probabilities_NCHW is not None:
            images, rows, columns = piece.place
            self.probabilities_NCHW[images, :, rows, columns] = probabilities_NCHW.half().cpu().numpy()


def predict_all(
    predictor: Predictor, num_classes: int, reads: Iterable[Scene | Skipped], batch_size: int, wanted: Wanted
) -> Iterator[Predicted | Skipped]:
    """Predicts pictures as they come; a picture waits until there are enough others of its size.

    Args:
        predictor: of the model.
        num_classes: that it predicts.
        reads: pictures, and what could not be read, which is passed on.
        batch_size: pictures that are predicted at once, at most; large ones fewer.
        wanted: what is computed.
    """
    waiting: dict[tuple[int, int], list[Scene]] = {}
    for read in reads:
        if isinstance(read, Skipped):
            yield read
            continue
        batch = waiting.setdefault(read.size_hw, [])
        batch.append(read)
        is_alone = not predictor.predicts_whole(*read.size_hw)
        if is_alone or len(batch) >= min(batch_size, MAX_BATCH_PX // read.num_px):
            yield from _predict(predictor, num_classes, waiting.pop(read.size_hw), wanted)
        elif sum(len(scenes) * height * width for (height, width), scenes in waiting.items()) > MAX_HELD_PX:
            largest = max(waiting, key=lambda size_hw: len(waiting[size_hw]) * size_hw[0] * size_hw[1])
            yield from _predict(predictor, num_classes, waiting.pop(largest), wanted)
    for batch in waiting.values():
        yield from _predict(predictor, num_classes, batch, wanted)


def _predict(
    predictor: Predictor, num_classes: int, batch: list[Scene], wanted: Wanted
) -> Iterator[Predicted | Skipped]:
    """Predicts pictures of one size; if they need more memory than the device has, one by one."""
    try:
        predicted = _predict_at_once(predictor, num_classes, batch, wanted)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = f"needs more memory than the device has: {error}"
    else:
        yield from predicted
        return
    # Here the error is gone, and with it the tensors that its traceback held.
    if len(batch) == 1:
        yield Skipped(batch[0].path, reason)
        return
    for scene in batch:
        yield from _predict(predictor, num_classes, [scene], wanted)


def _is_out_of_memory(error: Exception) -> bool:
    """Tells whether memory is short; on a CPU, PyTorch raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_CPU_MEMORY in str(error)


def _predict_at_once(predictor: Predictor, num_classes: int, batch: list[Scene], wanted: Wanted) -> list[Predicted]:
    pixels = [scene.picture.pixels for scene in batch]
    images_NHWC = np.stack(pixels) if len(pixels) > 1 else pixels[0][None]
    num_images, height, width = images_NHWC.shape[:3]
    outputs = _Outputs(
        np.empty((num_images, height, width), np.uint8),
        np.empty((num_images, height, width), np.uint8) if wanted.confidence else None,
        np.empty((num_images, num_classes, height, width), np.float16) if wanted.probabilities else None,
    )
    for piece in predictor.predict(images_NHWC):
        outputs.fill(piece)
    return [
        Predicted(
            scene,
            outputs.masks_NHW[i],
            None if outputs.confidence_NHW is None else outputs.confidence_NHW[i],
            None if outputs.probabilities_NCHW is None else outputs.probabilities_NCHW[i],
        )
        for i, scene in enumerate(batch)
    ]
