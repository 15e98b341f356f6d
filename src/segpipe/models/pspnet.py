"""PSPNet, which pools the deepest map over regions of several sizes, by segmentation_models.pytorch (smp).

Source: Zhao et al., "Pyramid scene parsing network", CVPR 2017: the pyramid pooling module of figure 3 on a ResNet that
is dilated to an output stride of 8, and the auxiliary loss of section 3.3.
Deviations: smp's default stops after the encoder's third stage; here it goes to the last, dilated, as in the paper. The
pooled maps are joined by a 1x1 convolution before the 3x3 one that gives the logits, where the paper has a 3x3 and a
1x1; the branch of one cell has no batch norm; ResNets begin with a 7x7 convolution. Those of `parts/smp`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import segmentation_models_pytorch as smp
from pydantic import Field
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, list_strides, name_fitting_encoders

CARD = Card(
    "smp",
    "Zhao et al., Pyramid scene parsing network, CVPR 2017",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
    earlier={"align_corners": True},
)


def describe(
    *,
    output_stride: Literal[8, 16, 32] = 8,
    decoder_channels: Annotated[int, Field(ge=1)] = 512,
    pool_sizes: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)] = (1, 2, 3, 6),
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 32.2 million parameters, 2.4 of them the auxiliary head's.

    Args:
        output_stride: of the deepest map; 32 fits encoders without dilation too.
        decoder_channels: of the map before the logits.
        pool_sizes: cells along each side, of the poolings; their number must divide the channels of the deepest map.
        dropout: probability for a channel, before the logits.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(
        _build_network,
        output_stride=output_stride,
        pool_sizes=pool_sizes,
        psp_out_channels=decoder_channels,
        psp_dropout=dropout,
    )
    fitting = name_fitting_encoders(output_stride)
    return Architecture(
        "pspnet",
        network,
        list_strides([5], output_stride),
        fitting,
        multiple_px=output_stride,
        align_corners=align_corners,
    )


def _build_network(*, output_stride: int, pool_sizes: Sequence[int], **options: Any) -> nn.Module:
    network = smp.PSPNet(encoder_depth=5, output_stride=output_stride, upsampling=output_stride, **options)
    channels = network.encoder.out_channels[-1]
    if channels % len(pool_sizes):
        raise ConfigError(
            f"model 'pspnet': option pool_sizes: has {len(pool_sizes)} sizes, which do not divide the {channels} "
            "channels of the encoder's deepest map"
        )
    network.decoder.psp = PSPModule(channels, tuple(pool_sizes))
    initialize_decoder(network.decoder.psp)
    return network


build_model = smp_builder(describe, encoder="resnet50", auxiliary=True)
