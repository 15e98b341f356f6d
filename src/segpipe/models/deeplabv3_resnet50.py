"""torchvision's DeepLabV3 on ResNet-50.

Source and deviations: `parts/dilated_resnet.py`.
"""

from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import deeplabv3_resnet50

from segpipe.models.parts.card import Card
from segpipe.models.parts.dilated_resnet import AUXILIARY_PARAMETERS, DEEPLABV3_PAPER, dilated_resnet_builder

CARD = Card("torchvision", DEEPLABV3_PAPER, published=(21, 42_004_074 - AUXILIARY_PARAMETERS))

build_model = dilated_resnet_builder("deeplabv3_resnet50", deeplabv3_resnet50, ResNet50_Weights.IMAGENET1K_V1)
