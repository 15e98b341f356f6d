"""Spatial squeeze and excitation (sSE): the weight of each pixel is computed from its channels.

Source: Roy, Navab, Wachinger, "Concurrent spatial and channel squeeze & excitation in fully convolutional networks",
MICCAI 2018, section 2: q = W * U, a 1x1 convolution to one channel, and u_ij sigmoid(q_ij) as output.
Deviation: the convolution has a bias.
"""

import torch
from torch import nn

from segpipe.models.parts.attention import Place

PLACE: Place = "every map"


class SpatialExcitation(nn.Module):
    """Multiplies each pixel of features (N, channels, H, W) by a number between 0 and 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 1, 1)

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives the weighed features, of the same shape."""
        return features_NCHW * self.squeeze(features_NCHW).sigmoid()


def build_block(*, channels: int) -> nn.Module:
    """Builds the block for features (N, channels, H, W)."""
    return SpatialExcitation(channels)
