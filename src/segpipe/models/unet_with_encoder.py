"""U-Net's expanding path on an encoder that was made for classification, by segmentation_models.pytorch (smp).

Source: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.
Deviations: the contracting path is the encoder, so the finest skip has half the resolution; up-sampling repeats pixels
instead of a transposed convolution; batch norm. Those of `parts/smp.py`. The paper's own network is `unet`.
"""

from functools import partial

import segmentation_models_pytorch as smp
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import PYRAMID_ENCODERS, Architecture, DecoderChannels, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015",
    small={"encoder": "test_efficientnet", "decoder_channels": (32, 16, 16, 8, 8)},
)

_ARCHITECTURE = Architecture("unet_with_encoder", list_strides(range(1, 6)), PYRAMID_ENCODERS)


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
    """Builds the network; the defaults are 24.4 million parameters.

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
        partial(smp.Unet, decoder_channels=tuple(decoder_channels)),
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
