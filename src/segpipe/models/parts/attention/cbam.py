"""CBAM: weights channels by their averages and maxima over the image, then pixels by those over their channels.

Source: Woo, Park, Lee, Kweon, "CBAM: convolutional block attention module", ECCV 2018, equations 1 to 3, by timm:
F' = F sigmoid(MLP(avg F) + MLP(max F)), then F'' = F' sigmoid(conv7x7([avg F'; max F'])); reduction r = 16.
Deviations: batch norm after the 7x7 convolution, as in the authors' code; between the layers of the MLP are at least 8
channels, and a multiple of 8, because a single one can be dead from the beginning.
"""

from timm.layers.cbam import CbamModule
from torch import nn

from segpipe.models.parts.attention import Place

PLACE: Place = "every map"


def build_block(*, channels: int) -> nn.Module:
    """Builds the block for features (N, channels, H, W)."""
    return CbamModule(channels, rd_ratio=1 / 16, rd_divisor=8)
