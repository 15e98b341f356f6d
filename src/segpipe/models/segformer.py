"""SegFormer, a transformer of four resolutions whose maps meet in linear layers, by segmentation_models.pytorch (smp).

Source: Xie et al., "SegFormer: simple and efficient design for semantic segmentation with transformers", NeurIPS 2021,
figure 2; the encoder mit_b2 and its decoder of 768 channels are SegFormer-B2 (the decoder of B0 and B1 has 256).
Deviations: the logits are resized with the corners of maps in place (`align_corners`), and no dropout comes before
them. Those of `parts/smp.py`.
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
    "Xie et al., SegFormer: simple and efficient design for semantic segmentation with transformers, NeurIPS 2021",
    published=(150, 27.5e6),
    small={"encoder": "mit_b0", "decoder_channels": 16},
)

_ARCHITECTURE = Architecture("segformer", list_strides(range(1, 6)), PYRAMID_ENCODERS)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "mit_b2",
    decoder_channels: Annotated[int, Field(ge=1)] = 768,
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 27.4 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        decoder_channels: to which every map is brought.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    return build_segmentation(
        _ARCHITECTURE,
        partial(smp.Segformer, decoder_segmentation_channels=decoder_channels),
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
