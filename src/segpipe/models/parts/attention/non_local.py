"""The non-local block: self-attention over pixels.

Source: Wang, Girshick, Gupta, He, "Non-local neural networks", CVPR 2018, equations 1, 4 and 6 (embedded Gaussian):
y_i = sum_j softmax_j(theta(x_i)^T phi(x_j)) g(x_j), and z_i = BN(W y_i) + x_i; theta, phi and g have half the channels.
Deviations: the dot products are divided by the square root of their length, as in the authors' code. The scale of the
batch norm begins at 0.1 where the paper has 0: with 0 the other layers get no gradient in the first step. No biases:
that of phi leaves the softmax as it is, those of g and W the batch norm. No sub-sampling of phi and g, as the deepest
map is small already. Not timm's block: it has an eighth of the channels, and scales by their number before reduction.
"""

import torch
from torch import nn

from segpipe.models.parts.attention import Place
from segpipe.models.parts.attention.parts.dot_product import attend

PLACE: Place = "deepest map"
INITIAL_SCALE = 0.1


class NonLocal(nn.Module):
    """Adds to each pixel of features (N, channels, H, W) a mean over all pixels, weighed by similarity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        num_between = max(1, channels // 2)
        self.theta = nn.Conv2d(channels, num_between, 1, bias=False)
        self.phi = nn.Conv2d(channels, num_between, 1, bias=False)
        self.g = nn.Conv2d(channels, num_between, 1, bias=False)
        self.out = nn.Conv2d(num_between, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.constant_(self.norm.weight, INITIAL_SCALE)

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives features of the same shape."""
        query_NPC, key_NPC, value_NPC = (layer(features_NCHW).flatten(2).mT for layer in (self.theta, self.phi, self.g))
        context_NPC = attend(query_NPC, key_NPC, value_NPC)
        context_NCHW = context_NPC.mT.unflatten(2, features_NCHW.shape[-2:])
        return features_NCHW + self.norm(self.out(context_NCHW))


def build_block(*, channels: int) -> nn.Module:
    """Builds the block for features (N, channels, H, W)."""
    return NonLocal(channels)
