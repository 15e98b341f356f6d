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
        rehearse_batch(settings, settings.batch_size)

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


def rehearse_batch(settings: Train, num_samples: int) -> None:
    """Builds the network and runs it on a batch without content; says which batch or crop is too small for it.

    Args:
        settings: `train` of the parameters.
        num_samples: of the batch: fewer than `batch_size` where the training split is smaller.

    Raises:
        ConfigError: the batch or the crop is too small for the model.
    """
    model = settings.model
    network = without_content(lambda: build_network(model.name, model.options, NUM_CLASSES, model.in_channels))
    freeze(network, settings)
    start_training(network, settings)
    if all(parameter.is_meta for parameter in network.parameters()):
        _show_batch(network, settings, num_samples)


def _show_batch(network: nn.Module, settings: Train, num_samples: int) -> None:
    """Runs the network on tensors that have shapes but no content."""
    step = 2 if settings.half_resolution_share else 1
    height, width = (side // step for side in settings.augment.crop)
    try:
        network(torch.empty(num_samples, 3, height, width, device="meta"))
    except ValueError as error:  # from a batch norm with a single value for each channel
        is_small_split = num_samples < settings.batch_size
        key = "preprocess.split" if is_small_split else "train.batch_size"
        what = f"{num_samples} training sample{'s' * (num_samples > 1)}" if is_small_split else num_samples
        fix = "leave at least 2 samples for training" if is_small_split else "take at least 2"
        raise ConfigError(
            f"{key}: {what} is too few for the batch norms of model {settings.model.name!r}: {error}; {fix}, or freeze "
            "the batch norms of an encoder with trained weights (train.freeze_batch_norm)"
        ) from error
    except RuntimeError as error:
        what = f"train.augment.crop: {height}x{width} px, the network's input, is too small"
        fix = "every model takes 32x32 and more"
        raise ConfigError(f"{what} for {settings.model.name!r}: {error}; {fix}") from error
