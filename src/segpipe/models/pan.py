"""PAN, attention in a pyramid over the deepest map and globally on the way up, by segmentation_models.pytorch (smp).

Source: Li et al., "Pyramid attention network for semantic segmentation", BMVC 2018: feature pyramid attention (section
3.1) and global attention upsample (section 3.2).
Deviations: the decoder's convolutions, which all have a batch norm behind them, have no bias, because the norm takes it
away again; any encoder, the paper's is resnet101, dilated to an output stride of 16 too. Those of `parts/smp.py`.
Three poolings halve the deepest map: images are padded to at least 8 of its cells, 128 px at an output stride of 16.
"""

from functools import partial
from typing import Annotated, Any, Literal

import segmentation_models_pytorch as smp
from pydantic import Field
from segmentation_models_pytorch.decoders.pan.decoder import ConvBnRelu
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import DILATED_ENCODERS, PYRAMID_ENCODERS, Architecture, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Li et al., Pyramid attention network for semantic segmentation, BMVC 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
)

# The deepest map is halved three times.
_LEAST_CELLS = 8


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet34",
    output_stride: Literal[16, 32] = 16,
    decoder_channels: Annotated[int, Field(ge=1)] = 32,
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 21.5 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        output_stride: of the deepest map; 32 fits encoders without dilation too.
        decoder_channels: of the decoder.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    architecture = Architecture(
        "pan",
        list_strides(range(2, 6), output_stride),
        DILATED_ENCODERS + "; at output_stride 32 " + PYRAMID_ENCODERS if output_stride == 16 else PYRAMID_ENCODERS,
        multiple_px=output_stride,
        min_side_px=_LEAST_CELLS * output_stride,
    )
    network = partial(_build_network, encoder_output_stride=output_stride, decoder_channels=decoder_channels)
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


def _build_network(**options: Any) -> nn.Module:
    network = smp.PAN(**options)
    for module in network.decoder.modules():
        if isinstance(module, ConvBnRelu):
            module.conv.register_parameter("bias", None)
    return network
