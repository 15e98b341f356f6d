"""torchvision's FCN and DeepLabV3 on ResNet-50 and ResNet-101: one encoder at 1/8, two heads.

Source of FCN: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015. Its head
is a convolution and a classifier; there are no skips.
Source of DeepLabV3: Chen, Papandreou, Schroff, Adam, "Rethinking atrous convolution for semantic image segmentation",
arXiv:1706.05587, section 3.3. Its head has atrous rates 12, 24, 36. A batch of one image cannot be trained on: the
batch norm behind the pooling over the image has one value a channel.
Both as torchvision has them: the last two stages of the ResNet dilated instead of strided, and a head as FCN's behind
the third stage, for the training.
Deviations of ours: none; auxiliary logits are not resized.
"""

from torch import nn
from torchvision.models import WeightsEnum

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.options import Build
from segpipe.models.parts.torchvision import EncoderDecoder

FCN_PAPER = "Long et al., Fully convolutional networks for semantic segmentation, CVPR 2015"
DEEPLABV3_PAPER = "Chen et al., Rethinking atrous convolution for semantic image segmentation, arXiv:1706.05587"
# Of the auxiliary head, for 21 classes; torchvision's counts have it, ours have not.
AUXILIARY_PARAMETERS = 2_365_205


def dilated_resnet_builder(name: str, library_builder: Build, imagenet: WeightsEnum) -> Build:
    """Gives the `build_model` of one head on one ResNet.

    Args:
        name: of the model, for messages.
        library_builder: torchvision's function.
        imagenet: the encoder's weights.
    """

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
        check_attention(name, attention, has_skips=False)
        weights = imagenet if pretrained else None
        network = library_builder(weights=None, weights_backbone=weights, num_classes=num_classes, aux_loss=auxiliary)
        return EncoderDecoder(network, in_channels, {"out": 2048}, attention)

    return build_model
