"""The models: one file for each, with a function `build_model` and a `CARD`.

    build_model(*, num_classes, in_channels, OPTION=DEFAULT, ...) -> torch.nn.Module
    build_model(*, num_classes, in_channels, pretrained, OPTION=DEFAULT, ...) -> torch.nn.Module

The second form is for models with a part `encoder` that has weights from ImageNet: `pretrained=True` loads them.

The module takes float32 images (N, in_channels, H, W), normalised, of any H and W from 32 px up. In evaluation mode it
gives logits (N, num_classes, H, W). In training mode it may give a tuple instead: first these logits, then auxiliary
logits of any resolution (auxiliary heads, deep supervision), which are part of the loss too.

The name of a model is its architecture, followed by its encoder if the file fixes it: `fcn8s_vgg16`. If any encoder
fits, it is an option: `{name: pspnet, options: {encoder: resnet50}}`. Shared code is in `parts/`. An architecture with
several names is a file there; the file of each name holds only its numbers and its card.
"""

import inspect

from segpipe.choices import MODELS
from segpipe.models.parts.card import Card

list_models = MODELS.names


def read_card(name: str) -> Card:
    """Gives the `CARD` of a model.

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
