"""Checks the parameters of a training without data: builds all that they name once."""

import torch
from torch import nn

from segpipe.classes import IGNORE_INDEX
from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.inference.cost import without_content
from segpipe.inference.network import build_network, check_pretrained
from segpipe.training.objective import make_objective
from segpipe.training.parameters import freeze, start_training
from segpipe.training.weights import check_file

# The maximum: an option may name any class, and the number of classes is known only with the data.
NUM_CLASSES = IGNORE_INDEX


def rehearse(settings: Train) -> None:
    """Builds network and losses, and runs the network on a batch without content; downloads nothing.

    Args:
        settings: `train` of the parameters.

    Raises:
        ConfigError: an option, an encoder, weights or the name of a part is wrong, or batch or crop are too small for
            the model; all in one message.
    """

    def build_model() -> None:
        _rehearse_model(settings)

    def check_weights() -> None:
        if settings.model.weights == "imagenet":
            check_pretrained(settings.model.name)
        if settings.model.is_from_file:
            check_file(settings.model)

    def build_losses() -> None:
        make_objective(settings.loss, settings.auxiliary_weight, torch.ones(NUM_CLASSES))

    problems: list[str] = []
    for work in (build_model, check_weights, build_losses):
        try:
            work()
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _rehearse_model(settings: Train) -> None:
    model = settings.model
    network = without_content(lambda: build_network(model.name, model.options, NUM_CLASSES, model.in_channels))
    freeze(network, settings)
    start_training(network, settings)
    if all(parameter.is_meta for parameter in network.parameters()):
        _show_batch(network, settings)


def _show_batch(network: nn.Module, settings: Train) -> None:
    """Runs the network on tensors that have shapes but no content."""
    step = 2 if settings.half_resolution_share else 1
    height, width = (side // step for side in settings.augment.crop)
    try:
        network(torch.empty(settings.batch_size, 3, height, width, device="meta"))
    except ValueError as error:  # from a batch norm with a single value for each channel
        what = (
            f"train.batch_size: {settings.batch_size} is too few for the batch norms of model {settings.model.name!r}"
        )
        raise ConfigError(f"{what}: {error}; take at least 2") from error
    except RuntimeError as error:
        what = f"train.augment.crop: {height}x{width} px, the network's input, is too small"
        fix = "every model takes 32x32 and more"
        raise ConfigError(f"{what} for {settings.model.name!r}: {error}; {fix}") from error
