"""PAN, attention in a pyramid over the deepest map and globally on the way up, by segmentation_models.pytorch (smp).

Source: Li et al., "Pyramid attention network for semantic segmentation", BMVC 2018: feature pyramid attention (section
3.1) and global attention upsample (section 3.2).
Deviations: the decoder's convolutions, which all have a batch norm behind them, have no bias, because the norm removes
it; any encoder, the paper's is resnet101, dilated to an output stride of 16 too. Those of `parts/smp`.
Three poolings halve the deepest map: images are padded to at least 8 of its cells, 128 px at an output stride of 16.
"""

from functools import partial
from typing import Annotated, Any, Literal

import segmentation_models_pytorch as smp
from pydantic import Field
from segmentation_models_pytorch.decoders.pan.decoder import ConvBnRelu
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, list_strides, name_fitting_encoders

CARD = Card(
    "smp",
    "Li et al., Pyramid attention network for semantic segmentation, BMVC 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
    earlier={"align_corners": True},
)

# The deepest map is halved three times.
_LEAST_CELLS = 8


def describe(
    *,
    output_stride: Literal[16, 32] = 16,
    decoder_channels: Annotated[int, Field(ge=1)] = 32,
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 21.5 million parameters.

    Args:
        output_stride: of the deepest map; 32 fits encoders without dilation too.
        decoder_channels: of the decoder.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(_build_network, encoder_output_stride=output_stride, decoder_channels=decoder_channels)
    return Architecture(
        "pan",
        network,
        list_strides(range(2, 6), output_stride),
        name_fitting_encoders(output_stride),
        multiple_px=output_stride,
        min_side_px=_LEAST_CELLS * output_stride,
        align_corners=align_corners,
    )


def _build_network(**options: Any) -> nn.Module:
    network = smp.PAN(**options)
    for module in network.decoder.modules():
        if isinstance(module, ConvBnRelu):
            module.conv.register_parameter("bias", None)
    return network


build_model = smp_builder(describe, encoder="resnet34")
