"""MA-Net, a U-Net with attention between positions and between scales, by segmentation_models.pytorch (smp).

Source: Fan et al., "MA-Net: a multi-scale attention network for liver and tumor segmentation", IEEE Access 2020: the
position-wise attention block on the deepest map, multi-scale fusion attention blocks where skips come in.
Deviations: the softmax of the position-wise attention goes over all pairs of positions, where the paper's goes over one
position's; an encoder made for classification; up-sampling repeats pixels. Those of `parts/smp.py`.
The attention's memory grows with the fourth power of the image's side.
"""

from functools import partial
from typing import Annotated

import segmentation_models_pytorch as smp
from pydantic import Field
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import PYRAMID_ENCODERS, Architecture, DecoderChannels, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Fan et al., MA-Net: a multi-scale attention network for liver and tumor segmentation, IEEE Access 2020",
    small={"encoder": "test_convnext3", "decoder_channels": (32, 16, 16, 8, 8), "attention_channels": 16},
)

_ARCHITECTURE = Architecture("manet", list_strides(range(1, 6)), PYRAMID_ENCODERS)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet34",
    decoder_channels: DecoderChannels = (256, 128, 64, 32, 16),
    attention_channels: Annotated[int, Field(ge=1)] = 64,
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 31.8 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        decoder_channels: of the decoder's five levels, from the deepest up.
        attention_channels: in which positions are compared.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    return build_segmentation(
        _ARCHITECTURE,
        partial(smp.MAnet, decoder_channels=tuple(decoder_channels), decoder_pab_channels=attention_channels),
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
