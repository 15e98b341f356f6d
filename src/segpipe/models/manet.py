"""MA-Net, a U-Net with attention between positions and between scales, by segmentation_models.pytorch (smp).

Source: Fan et al., "MA-Net: a multi-scale attention network for liver and tumor segmentation", IEEE Access 2020: the
position-wise attention block on the deepest map, multi-scale fusion attention blocks where skips come in.
Deviations: the softmax of the position-wise attention goes over all pairs of positions, where the paper's goes over one
position's; an encoder made for classification; up-sampling repeats pixels. Those of `parts/smp`.
The attention's memory grows with the fourth power of the image's side.
"""

from functools import partial
from typing import Annotated

import segmentation_models_pytorch as smp
from pydantic import Field

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, DecoderChannels, list_strides

CARD = Card(
    "smp",
    "Fan et al., MA-Net: a multi-scale attention network for liver and tumor segmentation, IEEE Access 2020",
    small={"encoder": "test_convnext3", "decoder_channels": (32, 16, 16, 8, 8), "attention_channels": 16},
)


def describe(
    *,
    decoder_channels: DecoderChannels = (256, 128, 64, 32, 16),
    attention_channels: Annotated[int, Field(ge=1)] = 64,
) -> Architecture:
    """Describes the network; the defaults are 31.8 million parameters.

    Args:
        decoder_channels: of the decoder's five levels, from the deepest up.
        attention_channels: in which positions are compared.
    """
    network = partial(smp.MAnet, decoder_channels=tuple(decoder_channels), decoder_pab_channels=attention_channels)
    return Architecture("manet", network, list_strides(range(1, 6)))


build_model = smp_builder(describe, encoder="resnet34")
