"""DeepLabV3+, atrous spatial pyramid pooling and a small decoder at 1/4, by segmentation_models.pytorch (smp).

Source: Chen et al., "Encoder-decoder with atrous separable convolution for semantic image segmentation", ECCV 2018,
figure 2 and section 3; the atrous rates of Chen et al., "Rethinking atrous convolution for semantic image
segmentation", arXiv:1706.05587, section 3.3.
Deviations: one separable 3x3 convolution in the decoder, where the paper has two, and one after the pyramid; any
encoder, the paper's are resnet101 and an Xception that timm has as xception65. Those of `parts/smp.py`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import segmentation_models_pytorch as smp
from pydantic import Field
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import DILATED_ENCODERS, Architecture, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Chen et al., Encoder-decoder with atrous separable convolution for semantic image segmentation, ECCV 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
)

_ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
_AtrousRates = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet50",
    output_stride: Literal[8, 16] = 16,
    atrous_rates: _AtrousRates | None = None,
    decoder_channels: Annotated[int, Field(ge=1)] = 256,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 26.7 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        output_stride: of the deepest map.
        atrous_rates: three; None for the paper's, 6, 12, 18 at an output stride of 16 and twice as many at 8.
        decoder_channels: of pyramid and decoder.
        dropout: probability, after the pyramid.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    architecture = Architecture(
        "deeplabv3plus", list_strides([2, 5], output_stride), DILATED_ENCODERS, multiple_px=output_stride
    )
    network = partial(
        smp.DeepLabV3Plus,
        encoder_output_stride=output_stride,
        decoder_atrous_rates=tuple(atrous_rates or _ATROUS_RATES[output_stride]),
        decoder_channels=decoder_channels,
        decoder_aspp_dropout=dropout,
    )
    return build_segmentation(
        architecture,
        network,
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
