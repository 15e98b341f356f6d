"""PSPNet, which looks at the deepest map in regions of several sizes, by segmentation_models.pytorch (smp).

Source: Zhao et al., "Pyramid scene parsing network", CVPR 2017: the pyramid pooling module of figure 3 on a ResNet that
is dilated to an output stride of 8, and the auxiliary loss of section 3.3.
Deviations: smp's default stops after the encoder's third stage; here it goes to the last, dilated, as in the paper. The
pooled maps are joined by a 1x1 convolution before the 3x3 one that gives the logits, where the paper has a 3x3 and a
1x1; the branch of one cell has no batch norm; ResNets begin with a 7x7 convolution. Those of `parts/smp.py`.
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
from segpipe.models.parts.smp import DILATED_ENCODERS, PYRAMID_ENCODERS, Architecture, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Zhao et al., Pyramid scene parsing network, CVPR 2017",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet50",
    output_stride: Literal[8, 16, 32] = 8,
    decoder_channels: Annotated[int, Field(ge=1)] = 512,
    pool_sizes: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)] = (1, 2, 3, 6),
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    attention: str | None = None,
    auxiliary: bool = True,
) -> nn.Module:
    """Builds the network; the defaults are 32.2 million parameters, 2.4 of them the auxiliary head's.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        output_stride: of the deepest map; 32 fits encoders without dilation too.
        decoder_channels: of the map before the logits.
        pool_sizes: cells along each side, of the poolings; their number must divide the channels of the deepest map.
        dropout: probability for a channel, before the logits.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    architecture = Architecture(
        "pspnet",
        list_strides([5], output_stride),
        PYRAMID_ENCODERS if output_stride == 32 else DILATED_ENCODERS + "; at output_stride 32 " + PYRAMID_ENCODERS,
        multiple_px=output_stride,
    )
    network = partial(
        _build_network,
        output_stride=output_stride,
        pool_sizes=pool_sizes,
        psp_out_channels=decoder_channels,
        psp_dropout=dropout,
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
