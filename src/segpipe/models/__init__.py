"""The zoo: one file a model, each with a function `build_model` and a `CARD`.

    build_model(*, num_classes, in_channels, OPTION=DEFAULT, ...) -> torch.nn.Module
    build_model(*, num_classes, in_channels, pretrained, OPTION=DEFAULT, ...) -> torch.nn.Module

The second form is of models that have a part, their `encoder`, with weights from ImageNet: `pretrained` asks for them.

The module takes float32 images (N, in_channels, H, W), normalised, of any H and W from 32 px up. In evaluation mode it
gives logits (N, num_classes, H, W). In training mode it may give a tuple instead: first these, then further logits of
any resolution (auxiliary heads, deep supervision), which the loss sees too.

A name is the architecture's, then the encoder's where the file fixes it: `fcn8s_vgg16`. Where any encoder fits it is an
option: `{name: pspnet, options: {encoder: resnet50}}`. What models share lies in `parts/`.
An architecture of several names is a file there; each name's file holds what is its own: numbers and card.
"""

import inspect

from segpipe.choices import MODELS
from segpipe.models.parts.card import Card

list_models = MODELS.names


def read_card(name: str) -> Card:
    """Gives what a model's file says of its model.

    Raises:
        ConfigError: there is no such model.
    """
    card: Card = MODELS.module_of(name).CARD
    return card


def has_pretrained(name: str) -> bool:
    """Whether a part of the model has weights from ImageNet.

    Raises:
        ConfigError: there is no such model.
    """
    return "pretrained" in inspect.signature(MODELS.function_of(name)).parameters
