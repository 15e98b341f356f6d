"""FC-DenseNet67: eleven dense blocks of 5 layers with 16 new channels each.

Source: Jegou, Drozdzal, Vazquez, Romero, Bengio, "The one hundred layers Tiramisu: fully convolutional DenseNets for
semantic segmentation", CVPRW 2017, section 4.1 and table 3. Deviations: see `parts/fc_densenet.py`.
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.fc_densenet import PAPER, FCDenseNet

NUMS_LAYERS = (5, 5, 5, 5, 5, 5)

# The paper counts the running statistics too, as the sum in the authors' code does.
CARD = Card("segpipe", PAPER, published=(11, 3.5e6), small={"growth": 4, "first_width": 8})


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    growth: Annotated[int, Field(ge=1)] = 16,
    first_width: Annotated[int, Field(ge=1)] = 48,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    checkpointing: bool = True,
    attention: str | None = None,
) -> nn.Module:
    """Builds an `FCDenseNet`.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        growth: channels that each layer adds.
        first_width: channels of the first convolution.
        dropout: probability with which a value is dropped in training.
        checkpointing: whether a training computes parts of its forward pass again, to take less memory. The weights
            that it gives are the same.
        attention: name of an attention block, at the places where it belongs.

    Raises:
        ConfigError: there is no such attention block.
    """
    check_attention("fc_densenet67", attention, has_skips=True)
    return FCDenseNet(
        num_classes,
        in_channels,
        NUMS_LAYERS,
        growth=growth,
        first_width=first_width,
        dropout=dropout,
        checkpointing=checkpointing,
        attention=attention,
    )
