"""torchvision's FCN on ResNet-101.

Source and deviations: `parts/dilated_resnet.py`.
"""

from torchvision.models import ResNet101_Weights
from torchvision.models.segmentation import fcn_resnet101

from segpipe.models.parts.card import Card
from segpipe.models.parts.dilated_resnet import AUXILIARY_PARAMETERS, FCN_PAPER, dilated_resnet_builder

CARD = Card("torchvision", FCN_PAPER, published=(21, 54_314_346 - AUXILIARY_PARAMETERS))

build_model = dilated_resnet_builder("fcn_resnet101", fcn_resnet101, ResNet101_Weights.IMAGENET1K_V1)
