"""torchvision's LRASPP on MobileNetV3-Large, from scratch.

Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.4; torchvision's implementation.
Deviation: the momentum of the running batch-norm statistics. torchvision's 0.01 needs thousands of steps until they
describe the network; in a short training they stay unfinished and evaluation falls apart (test mIoU 2 instead of 27).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large


class _LogitsOnly(nn.Module):
    """Takes the logits out of the dictionary that torchvision's networks return."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NCHW: torch.Tensor = self.network(images_NCHW)["out"]
        return logits_NCHW


def build_model(*, num_classes: int, batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1) -> nn.Module:
    """Builds the network with random weights.

    Args:
        num_classes: channels of the output.
        batch_norm_momentum: share of the newest batch in the running statistics.
    """
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = batch_norm_momentum
    return _LogitsOnly(network)
