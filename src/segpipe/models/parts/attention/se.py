"""Squeeze and excitation: the weight of each channel is computed from the means of all channels over the image.

Source: Hu, Shen, Sun, "Squeeze-and-excitation networks", CVPR 2018, equations 2 to 4, computed by timm:
s = sigmoid(W2 relu(W1 z)) with z_c the mean of channel c, and x_c s_c as output; reduction r = 16.
Deviations: W1 and W2 have biases; between them are at least 8 channels, and a multiple of 8, because a single one can
be dead from the start.
"""

from timm.layers.squeeze_excite import SEModule
from torch import nn

from segpipe.models.parts.attention import Place

PLACE: Place = "every map"


def build_block(*, channels: int) -> nn.Module:
    """Builds the block for features (N, channels, H, W)."""
    return SEModule(channels, rd_ratio=1 / 16, rd_divisor=8)
