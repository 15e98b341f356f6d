"""torchvision's DeepLabV3 on MobileNetV3-Large.

Source: Chen, Papandreou, Schroff, Adam, "Rethinking atrous convolution for semantic image segmentation",
arXiv:1706.05587, section 3.3, on the encoder of Howard et al., "Searching for MobileNetV3", ICCV 2019; torchvision's
implementation: output at 1/16, atrous rates 12, 24, 36; a head as FCN's at 1/8, for the training.
Deviation of ours: the momentum of the running batch-norm statistics, 0.1 instead of 0.01; auxiliary logits are not
resized.
A batch of one image cannot be trained on: the batch norm behind the pooling over the image has one value a channel.
"""

from typing import Annotated

from pydantic import Field
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.torchvision import EncoderDecoder, set_batch_norm_momentum

# torchvision's count less the auxiliary head's.
CARD = Card(
    "torchvision",
    "Chen et al., Rethinking atrous convolution for semantic image segmentation, arXiv:1706.05587",
    published=(21, 11_029_328 - 3_851),
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    auxiliary: bool = True,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1,
    attention: str | None = None,
) -> nn.Module:
    """Builds the network.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        pretrained: whether the encoder has torchvision's weights from ImageNet (IMAGENET1K_V1).
        auxiliary: whether a second head reads the features at 1/8 in training.
        batch_norm_momentum: share of the newest batch in the running statistics.
        attention: name of an attention block for single maps, on the encoder's last.

    Raises:
        ConfigError: there is no such attention block, or no place for it.
    """
    check_attention("deeplabv3_mobilenet_v3_large", attention, has_skips=False)
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if pretrained else None
    network = deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=weights, num_classes=num_classes, aux_loss=auxiliary
    )
    module = EncoderDecoder(network, in_channels, {"out": 960}, attention)
    set_batch_norm_momentum(module, batch_norm_momentum)
    return module
