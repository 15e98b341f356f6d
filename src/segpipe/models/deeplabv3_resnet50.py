"""torchvision's DeepLabV3 on ResNet-50.

Source: Chen, Papandreou, Schroff, Adam, "Rethinking atrous convolution for semantic image segmentation",
arXiv:1706.05587, section 3.3; torchvision's implementation: output at 1/8, atrous rates 12, 24, 36; a head as FCN's
behind the third stage, for the training.
A batch of one image cannot be trained on: the batch norm behind the pooling over the image has one value a channel.
Deviations of ours: none; auxiliary logits are not resized.
"""

from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import deeplabv3_resnet50

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.torchvision import EncoderDecoder

# torchvision's count less the auxiliary head's.
CARD = Card(
    "torchvision",
    "Chen et al., Rethinking atrous convolution for semantic image segmentation, arXiv:1706.05587",
    published=(21, 42_004_074 - 2_365_205),
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
    check_attention("deeplabv3_resnet50", attention, has_skips=False)
    weights = ResNet50_Weights.IMAGENET1K_V1 if pretrained else None
    network = deeplabv3_resnet50(weights=None, weights_backbone=weights, num_classes=num_classes, aux_loss=auxiliary)
    return EncoderDecoder(network, in_channels, {"out": 2048}, attention)
