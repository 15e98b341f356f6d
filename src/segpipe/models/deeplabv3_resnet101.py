"""torchvision's DeepLabV3 on ResNet-101.

Source and deviations: `parts/dilated_resnet.py`.
"""

from torchvision.models import ResNet101_Weights
from torchvision.models.segmentation import deeplabv3_resnet101

from segpipe.models.parts.card import Card
from segpipe.models.parts.dilated_resnet import AUXILIARY_PARAMETERS, DEEPLABV3_PAPER, dilated_resnet_builder

CARD = Card("torchvision", DEEPLABV3_PAPER, published=(21, 60_996_202 - AUXILIARY_PARAMETERS))

build_model = dilated_resnet_builder("deeplabv3_resnet101", deeplabv3_resnet101, ResNet101_Weights.IMAGENET1K_V1)
