"""Measures a network on whole images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segpipe.data.loader import whole_batches
from segpipe.data.store import Store
from segpipe.engine.network import to_input
from segpipe.metrics.confusion import confusion_matrices
from segpipe.metrics.scores import Scores, scores_of

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MAX_BATCH_PX = 1 << 20


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a set of samples.

    Attributes:
        confusions: (num_samples, num_classes, num_classes) int64 pixel counts of each sample; rows are truth.
        loss: mean over the batches.
    """

    confusions: npt.NDArray[np.int64]
    loss: float

    @property
    def scores(self) -> Scores:
        """Scores of the whole set, from the sum of all matrices."""
        return scores_of(self.confusions.sum(axis=0))


@torch.inference_mode()
def evaluate(module: nn.Module, store: Store, loss: Loss, device: torch.device) -> Evaluation:
    """Predicts each sample whole and counts its pixels.

    Args:
        module: in any mode; left in evaluation mode.
        store: the samples; at least one.
        loss: of logits and targets.
        device: where the module is.
    """
    module.eval()
    largest_px = int((store.manifest["height"] * store.manifest["width"]).max())
    confusions, losses = [], []
    for _, (images_NHWC, masks_NHW) in whole_batches(store, batch_size=max(1, MAX_BATCH_PX // largest_px)):
        logits_NCHW = module(to_input(images_NHWC, device))
        target_NHW = torch.from_numpy(masks_NHW).to(device)
        # max, not argmax: ten times as fast on the CPU, and the same.
        prediction_NHW = logits_NCHW.max(dim=1).indices
        confusions.append(confusion_matrices(prediction_NHW, target_NHW, store.classes.num_classes).cpu().numpy())
        losses.append(float(loss(logits_NCHW, target_NHW.long())))
    return Evaluation(np.concatenate(confusions), float(np.mean(losses)))
