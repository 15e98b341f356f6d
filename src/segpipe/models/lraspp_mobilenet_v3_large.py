"""torchvision's LRASPP on MobileNetV3-Large.

Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.4; torchvision's implementation.
Deviation of ours: the momentum of the running batch-norm statistics, 0.1 instead of 0.01.
"""

from typing import Annotated

from pydantic import Field
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.torchvision import EncoderDecoder, set_batch_norm_momentum

CARD = Card("torchvision", "Howard et al., Searching for MobileNetV3, ICCV 2019", published=(21, 3_221_538))


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1,
    attention: str | None = None,
) -> nn.Module:
    """Builds the network.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        pretrained: whether the encoder has torchvision's weights from ImageNet (IMAGENET1K_V1).
        batch_norm_momentum: share of the newest batch in the running statistics.
        attention: name of an attention block, on the maps at 1/8 and 1/16.

    Raises:
        ConfigError: there is no such attention block.
    """
    check_attention("lraspp_mobilenet_v3_large", attention, has_skips=True)
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if pretrained else None
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=weights, num_classes=num_classes)
    module = EncoderDecoder(network, in_channels, {"low": 40, "high": 960}, attention)
    set_batch_norm_momentum(module, batch_norm_momentum)
    return module
