"""torchvision's FCN on ResNet-50.

Source and deviations: `parts/dilated_resnet.py`.
"""

from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import fcn_resnet50

from segpipe.models.parts.card import Card
from segpipe.models.parts.dilated_resnet import AUXILIARY_PARAMETERS, FCN_PAPER, dilated_resnet_builder

CARD = Card("torchvision", FCN_PAPER, published=(21, 35_322_218 - AUXILIARY_PARAMETERS))

build_model = dilated_resnet_builder("fcn_resnet50", fcn_resnet50, ResNet50_Weights.IMAGENET1K_V1)
