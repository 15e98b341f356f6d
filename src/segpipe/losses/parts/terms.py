"""The terms of a loss that `train.loss` names, for the training and for whatever measures a trained model."""

from collections.abc import Sequence

import torch

from segpipe.choices import LOSSES
from segpipe.config.train import LossTerm
from segpipe.errors import ConfigError
from segpipe.losses.parts.weighted_sum import Loss


def build_terms(terms: Sequence[LossTerm], class_weights: torch.Tensor) -> tuple[tuple[float, Loss], ...]:
    """Builds the losses.

    Args:
        terms: names, options and weights.
        class_weights: (num_classes,) float32, on the device of the logits.

    Returns:
        Factor and loss of each term.

    Raises:
        ConfigError: options are unknown or wrong; one message for all terms.
    """
    built, problems = [], []
    for term in terms:
        try:
            built.append((term.weight, LOSSES.call(term.name, term.options, class_weights=class_weights)))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(built)
