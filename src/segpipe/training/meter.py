"""The training mIoU of an epoch, from the augmented images of its steps."""

import numpy as np
import torch

from segpipe.metrics import mean_iou
from segpipe.metrics.evidence import confusion


class Meter:
    """Counts the pixels of an epoch on the device, so that no step waits for a copy to the host.

    Args:
        num_classes: channels of the logits.
        counts: confusion matrix of the earlier batches, (num_classes, num_classes) as nested lists; empty for none.
        device: the device of the logits.
    """

    def __init__(self, num_classes: int, counts: list[list[int]], device: torch.device) -> None:
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        if counts:
            self._confusion += torch.tensor(counts, device=device)

    @torch.no_grad()
    def observe(self, logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> None:
        """Counts the pixels of a batch."""
        self._confusion += confusion.collect(logits_NCHW, target_NHW).sum(dim=0)

    def counts(self) -> list[list[int]]:
        """Gives the confusion matrix so far, rows are truth."""
        counts: list[list[int]] = self._confusion.tolist()
        return counts


def mean_iou_of(counts: list[list[int]]) -> float:
    """Gives the mIoU of a confusion matrix; 0 for an empty one."""
    matrix = np.array(counts, np.int64)
    return mean_iou.compute(matrix[None]) if matrix.any() else 0.0
