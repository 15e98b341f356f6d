"""U-Net++, whose skips are dense networks of their own, by segmentation_models.pytorch (smp).

Source: Zhou et al., "UNet++: a nested U-Net architecture for medical image segmentation", DLMIA 2018, figure 1 a.
Deviations: an encoder made for classification in place of the paper's; no deep supervision; up-sampling repeats pixels;
batch norm. Those of `parts/smp.py`.
"""

from functools import partial

import segmentation_models_pytorch as smp
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import PYRAMID_ENCODERS, Architecture, DecoderChannels, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Zhou et al., UNet++: a nested U-Net architecture for medical image segmentation, DLMIA 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": (16, 16, 8, 8, 8)},
)

_ARCHITECTURE = Architecture("unetplusplus", list_strides(range(1, 6)), PYRAMID_ENCODERS)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet34",
    decoder_channels: DecoderChannels = (256, 128, 64, 32, 16),
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 26.1 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        decoder_channels: of the decoder's five levels, from the deepest up.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    return build_segmentation(
        _ARCHITECTURE,
        partial(smp.UnetPlusPlus, decoder_channels=tuple(decoder_channels)),
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
