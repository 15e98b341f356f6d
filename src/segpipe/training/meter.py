"""Loss and mIoU of a training's epoch, from the augmented images of its steps."""

import math

import numpy as np
import torch

from segpipe.errors import TrainingError
from segpipe.inference.logits import most_likely
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.training.processes.ranks import ALONE, Ranks
from segpipe.training.state import Progress


class Meter:
    """Adds up losses and pixels of an epoch on the device, so that no step waits for a copy to the host.

    Args:
        num_classes: channels of the logits.
        progress: of the training; what earlier steps of the epoch added is continued.
        device: the device of the logits.
        ranks: the processes of the training; each counts its part.
    """

    def __init__(self, num_classes: int, progress: Progress, device: torch.device, ranks: Ranks = ALONE) -> None:
        self._progress, self._ranks = progress, ranks
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        self._of_step = torch.zeros_like(self._confusion)
        self._loss_sum = torch.zeros((), dtype=torch.float32, device=device)
        if ranks.is_first:
            self._loss_sum += progress.loss_sum
            if progress.train_confusion:
                self._confusion += torch.tensor(progress.train_confusion, device=device)

    @torch.no_grad()
    def observe(self, logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> None:
        """Counts the pixels of a batch; `add_loss` or `forget_step` ends its step."""
        predicted_NHW = most_likely(logits_NCHW)
        self._of_step += confusion_matrix(predicted_NHW, target_NHW, num_classes=logits_NCHW.shape[1])

    def add_loss(self, loss: torch.Tensor, num_batches: int) -> None:
        """Adds this process's part of the loss of a step of so many batches."""
        self._loss_sum += loss * num_batches
        self._confusion += self._of_step
        self._of_step.zero_()

    def forget_step(self) -> None:
        """Forgets the pixels of a step that is computed again."""
        self._of_step.zero_()

    def read_loss(self) -> None:
        """Writes the sum of losses to the progress; waits for the device.

        Raises:
            TrainingError: it is not finite.
        """
        progress = self._progress
        progress.loss_sum = float(self._ranks.add_up(self._loss_sum))
        if not math.isfinite(progress.loss_sum):
            where = f"epoch {progress.epoch + 1}, batch {progress.batch} or shortly before"
            raise TrainingError(
                f"{where}: the loss is {progress.loss_sum}; lower train.learning_rate, or lengthen the warm-up"
            )

    def read(self) -> None:
        """Writes all sums to the progress; waits for the device.

        Raises:
            TrainingError: the loss is not finite.
        """
        self.read_loss()
        self._progress.train_confusion = self._ranks.add_up(self._confusion).tolist()


def mean_iou_of(counts: list[list[int]]) -> float:
    """Gives the mIoU of a confusion matrix; 0 for an empty one."""
    matrix = np.array(counts, np.int64)
    return mean_iou.compute(confusions_of(matrix[None])) if matrix.any() else 0.0


def confusion_matrix(prediction_NHW: torch.Tensor, target_NHW: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Counts on the device how many pixels of class i were predicted as class j.

    Args:
        prediction_NHW: class indices 0..num_classes - 1, any integer type.
        target_NHW: class indices; pixels of any other value (void) are not counted.
        num_classes: size of the matrix.

    Returns:
        (num_classes, num_classes) int64 on the inputs' device; rows are truth, columns prediction.
    """
    # Void becomes one more row, which is cut off: to pick the labelled pixels takes longer than to count all. A count
    # of 8-bit numbers, where all pairs fit into them, takes half the time of another.
    num_pairs = (num_classes + 1) * num_classes
    dtype = torch.uint8 if num_pairs <= 1 << 8 else torch.int32
    rows_NHW = target_NHW.clamp(max=num_classes).to(dtype)
    pairs_NHW = rows_NHW * num_classes + prediction_NHW.to(dtype)
    counts = torch.bincount(pairs_NHW.flatten(), minlength=num_pairs)
    return counts.view(num_classes + 1, num_classes)[:num_classes]
