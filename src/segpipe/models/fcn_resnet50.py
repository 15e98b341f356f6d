"""torchvision's FCN on ResNet-50.

Source: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015; torchvision's
implementation: the last two stages of the ResNet dilated instead of strided (output at 1/8), a convolution and a
classifier behind it, no skips; a second such head behind the third stage, for the training.
Deviations of ours: none; auxiliary logits are not resized.
"""

from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import fcn_resnet50

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.torchvision import EncoderDecoder

# torchvision's count less the auxiliary head's.
CARD = Card(
    "torchvision",
    "Long et al., Fully convolutional networks for semantic segmentation, CVPR 2015",
    published=(21, 35_322_218 - 2_365_205),
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    auxiliary: bool = True,
    attention: str | None = None,
) -> nn.Module:
    """Builds the network.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        pretrained: whether the encoder has torchvision's weights from ImageNet (IMAGENET1K_V1).
        auxiliary: whether a second head reads the third stage in training.
        attention: name of an attention block for single maps, on the last stage's.

    Raises:
        ConfigError: there is no such attention block, or no place for it.
    """
    check_attention("fcn_resnet50", attention, has_skips=False)
    weights = ResNet50_Weights.IMAGENET1K_V1 if pretrained else None
    network = fcn_resnet50(weights=None, weights_backbone=weights, num_classes=num_classes, aux_loss=auxiliary)
    return EncoderDecoder(network, in_channels, {"out": 2048}, attention)
