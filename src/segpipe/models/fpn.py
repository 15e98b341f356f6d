"""Semantic FPN: a feature pyramid whose levels are brought to 1/4 and added, by segmentation_models.pytorch (smp).

Source: Kirillov et al., "Panoptic feature pyramid networks", CVPR 2019, section 3.1 and figure 3; the pyramid of Lin et
al., "Feature pyramid networks for object detection", CVPR 2017.
Deviations: no 3x3 convolution on the pyramid's levels before the branches; dropout before the logits; bilinear
up-sampling keeps the corners of maps in place (`align_corners`). Those of `parts/smp.py`.
"""

from functools import partial
from typing import Annotated

import segmentation_models_pytorch as smp
from pydantic import Field
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import PYRAMID_ENCODERS, Architecture, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Kirillov et al., Panoptic feature pyramid networks, CVPR 2019",
    small={"encoder": "test_efficientnet", "pyramid_channels": 32, "segmentation_channels": 32},
)

_ARCHITECTURE = Architecture("fpn", list_strides(range(2, 6)), PYRAMID_ENCODERS)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet34",
    pyramid_channels: Annotated[int, Field(ge=1)] = 256,
    segmentation_channels: Annotated[int, Field(ge=32, multiple_of=32)] = 128,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 23.2 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        pyramid_channels: of the pyramid.
        segmentation_channels: of the branches from its levels to 1/4; 32 groups are normalised.
        dropout: probability for a channel, before the logits.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    network = partial(
        smp.FPN,
        decoder_pyramid_channels=pyramid_channels,
        decoder_segmentation_channels=segmentation_channels,
        decoder_dropout=dropout,
    )
    return build_segmentation(
        _ARCHITECTURE,
        network,
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
