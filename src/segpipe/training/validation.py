"""Validates a network; several processes share the samples, and get what one alone would get, to the last digit."""

import numpy as np
import torch
from torch import nn

from segpipe.data.store import Store
from segpipe.inference.device import device_of
from segpipe.inference.evaluate import Terms, evaluate
from segpipe.inference.predictor import Predictor
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.training.processes.ranks import Ranks


def validate(module: nn.Module, store: Store, terms: Terms, ranks: Ranks) -> tuple[float, float]:
    """Evaluates the network; each process takes a part of the batches, and no sample is taken twice.

    Args:
        module: in any mode; afterwards in evaluation mode.
        store: the samples; at least one.
        terms: factors and losses; the loss is their weighted sum.
        ranks: the processes.

    Returns:
        Mean IoU of all samples, 0..1, NaN if no pixel is labelled; the mean loss of the batches.
    """
    here = evaluate(Predictor(module), store, terms, part=ranks.part)
    num_classes = store.classes.num_classes
    counts = here.confusions.total() if here.losses else np.zeros((num_classes, num_classes), np.int64)
    total = ranks.add_up(torch.from_numpy(counts).to(device_of(module))).cpu().numpy()
    losses: dict[int, float] = {}
    for rank, of_rank in enumerate(ranks.gather(here.losses)):
        losses |= {rank + number * ranks.number: loss for number, loss in enumerate(of_rank)}
    return mean_iou.compute(confusions_of(total[None])), float(np.mean([losses[number] for number in sorted(losses)]))
