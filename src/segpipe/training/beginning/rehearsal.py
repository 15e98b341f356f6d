"""Checks the parameters of a training without data: builds all that they name once."""

import torch
from torch import nn

from segpipe.classes import IGNORE_INDEX
from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.inference.cost import without_content
from segpipe.inference.network import build_network, check_pretrained
from segpipe.training.beginning.weights import check_file
from segpipe.training.objective import make_objective
from segpipe.training.parameters import freeze, start_training

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
        rehearse_batch(settings, settings.batch_size, settings.batch_size)

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


def rehearse_batch(settings: Train, num_samples: int, num_at_once: int) -> None:
    """Builds the network and runs it on a batch without content; says which batch or crop is too small for it.

    Args:
        settings: `train` of the parameters.
        num_samples: of the batch: fewer than `batch_size` where the training split is smaller.
        num_at_once: of the smallest part of the batch that the network sees: fewer where `micro_batch` divides it.

    Raises:
        ConfigError: the batch, a part of it or the crop is too small for the model.
    """
    model = settings.model
    network = without_content(lambda: build_network(model.name, model.options, NUM_CLASSES, model.in_channels))
    freeze(network, settings)
    start_training(network, settings)
    if all(parameter.is_meta for parameter in network.parameters()):
        _show_batch(network, settings, num_samples, num_at_once)


def _show_batch(network: nn.Module, settings: Train, num_samples: int, num_at_once: int) -> None:
    """Runs the network on tensors that have shapes but no content."""
    step = 2 if settings.half_resolution_share else 1
    height, width = (side // step for side in settings.augment.crop)
    try:
        network(torch.empty(num_at_once, 3, height, width, device="meta"))
    except ValueError as error:  # from a batch norm with a single value for each channel
        key, what, fix = "train.batch_size", f"{num_samples}", "take at least 2"
        if num_at_once < num_samples:
            key, fix = "train.micro_batch", "take a larger number"
            what = f"{settings.micro_batch} leaves a part of {num_at_once} of {num_samples} samples, which"
        elif num_samples < settings.batch_size:
            key, fix = "preprocess.split", "leave at least 2 samples for training"
            what = f"{num_samples} training sample{'s' * (num_samples > 1)}"
        raise ConfigError(
            f"{key}: {what} is too few for the batch norms of model {settings.model.name!r}: {error}; {fix}, or freeze "
            "the batch norms of an encoder with trained weights (train.freeze_batch_norm)"
        ) from error
    except RuntimeError as error:
        what = f"train.augment.crop: {height}x{width} px, the network's input, is too small"
        fix = "every model takes 32x32 and more"
        raise ConfigError(f"{what} for {settings.model.name!r}: {error}; {fix}") from error
