"""LinkNet, which adds an encoder's maps to the decoder's instead of joining them, by segmentation_models.pytorch (smp).

Source: Chaurasia and Culurciello, "LinkNet: exploiting encoder representations for efficient semantic segmentation",
VCIP 2017.
Deviations: five decoder blocks, the last without a skip, and one 1x1 convolution for the logits, in place of four
blocks and two transposed convolutions; kernels of 4 in transposed convolutions, which a stride of 2 divides; any
encoder, the paper's is resnet18. Those of `parts/smp.py`.
"""

import segmentation_models_pytorch as smp
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import PYRAMID_ENCODERS, Architecture, build_segmentation, list_strides

CARD = Card(
    "smp",
    "Chaurasia et al., LinkNet: exploiting encoder representations for efficient semantic segmentation, VCIP 2017",
    small={"encoder": "test_efficientnet"},
)

_ARCHITECTURE = Architecture("linknet", list_strides(range(1, 6)), PYRAMID_ENCODERS)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "resnet34",
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 21.8 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of an encoder of smp, or of any model of timm that fits.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    return build_segmentation(
        _ARCHITECTURE,
        smp.Linknet,
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )
