"""UPerNet, pyramid pooling on the deepest map and a feature pyramid above it, by segmentation_models.pytorch (smp).

Source: Xiao et al., "Unified perceptual parsing for scene understanding", ECCV 2018, figure 4, the part for objects;
the auxiliary head is that of Zhao et al., "Pyramid scene parsing network", CVPR 2017, as is custom for this network.
Deviations: a layer norm on each of the encoder's maps, which transformers as encoders need. Those of `parts/smp.py`.
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
    "Xiao et al., Unified perceptual parsing for scene understanding, ECCV 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
)

_ARCHITECTURE = Architecture("upernet", list_strides(range(2, 6)), PYRAMID_ENCODERS)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet50",
    decoder_channels: Annotated[int, Field(ge=1)] = 256,
    attention: str | None = None,
    auxiliary: bool = True,
) -> nn.Module:
    """Builds the network; the defaults are 39.6 million parameters, 2.4 of them the auxiliary head's.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        decoder_channels: of the pyramid.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    return build_segmentation(
        _ARCHITECTURE,
        partial(smp.UPerNet, decoder_channels=decoder_channels),
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
