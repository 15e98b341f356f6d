"""The scores of a model on labelled images."""

from typing import Any

import torch

from segpipe.api.datasets import Dataset
from segpipe.api.models import Model
from segpipe.errors import StoreError
from segpipe.inference import evaluate as measuring
from segpipe.inference.network import Network
from segpipe.losses.parts.weighted_sum import Loss
from segpipe.metrics.parts.scores import list_evidence, score

# The stage measures the loss of the training too, which only the training's parameters tell.
NO_LOSS = Loss(weigh=lambda target_NHW: torch.zeros(1), cost=lambda logits_NCHW, target_NHW: logits_NCHW.new_zeros(1))


def evaluate(model: Model, dataset: Dataset, split: str = "val") -> dict[str, Any]:
    """Measures a model as the stage `evaluate` does: the same predictions, counts and metrics.

    Args:
        model: its classes are those of the data set, in the same order.
        dataset: with the split.
        split: `val`, `test` or `train`.

    Returns:
        By the names of `build/evaluation/metrics.json`: `mean_iou`, `pixel_accuracy`, ... as numbers, mostly 0..1;
        `iou`, `precision`, ... as numbers by class; None where the images say nothing, as of a class that they lack.
        Not among them: the loss, and the interval of the mean IoU, which need the parameters of the training.

    Raises:
        StoreError: the classes differ, the split has no samples, or the model is an export, whose `export.json` has
            the scores.

    Examples:
        >>> import segpipe
        >>> model, dataset = segpipe.load_model("build/model"), segpipe.open_dataset("build/dataset")
        >>> scores = segpipe.evaluate(model, dataset, "val")
        >>> 0 <= scores["mean_iou"] <= 1, sorted(scores["iou"])
        (True, ['box', 'ground', 'sky'])
    """
    part = dataset.split(split).store
    if part.classes.names != model.classes.names:
        theirs, ours = ", ".join(part.classes.names), ", ".join(model.classes.names)
        raise StoreError(
            f"the model {model.summary.name} predicts {ours}; {part.folder} has {theirs}; take a model that was "
            "trained on this data set"
        )
    if not isinstance(model.network, Network):
        fix = "measure the model that it was made of; export.json has both scores"
        raise StoreError(f"the model {model.summary.name} is an export; {fix}")
    measured = measuring.evaluate(model.network.predictor, part, [(1.0, NO_LOSS)], list_evidence())
    return score(measured.evidence, part.classes.names)
