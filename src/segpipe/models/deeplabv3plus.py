"""DeepLabV3+, atrous spatial pyramid pooling and a small decoder at 1/4, by segmentation_models.pytorch (smp).

Source: Chen et al., "Encoder-decoder with atrous separable convolution for semantic image segmentation", ECCV 2018,
figure 2 and section 3; the atrous rates of Chen et al., "Rethinking atrous convolution for semantic image
segmentation", arXiv:1706.05587, section 3.3.
Deviations: one separable 3x3 convolution in the decoder, where the paper has two, and one after the pyramid; any
encoder, the paper's are resnet101 and an Xception that timm has as xception65. Those of `parts/smp`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import segmentation_models_pytorch as smp
from pydantic import Field

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import DILATED_ENCODERS, Architecture, list_strides

CARD = Card(
    "smp",
    "Chen et al., Encoder-decoder with atrous separable convolution for semantic image segmentation, ECCV 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
    earlier={"align_corners": True},
)

_ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
_AtrousRates = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]


def describe(
    *,
    output_stride: Literal[8, 16] = 16,
    atrous_rates: _AtrousRates | None = None,
    decoder_channels: Annotated[int, Field(ge=1)] = 256,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 26.7 million parameters.

    Args:
        output_stride: of the deepest map.
        atrous_rates: three; None for the paper's, 6, 12, 18 at an output stride of 16 and twice as many at 8.
        decoder_channels: of pyramid and decoder.
        dropout: probability, after the pyramid.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(
        smp.DeepLabV3Plus,
        encoder_output_stride=output_stride,
        decoder_atrous_rates=tuple(atrous_rates or _ATROUS_RATES[output_stride]),
        decoder_channels=decoder_channels,
        decoder_aspp_dropout=dropout,
    )
    strides_px = list_strides([2, 5], output_stride)
    return Architecture(
        "deeplabv3plus", network, strides_px, DILATED_ENCODERS, multiple_px=output_stride, align_corners=align_corners
    )


build_model = smp_builder(describe, encoder="resnet50")
