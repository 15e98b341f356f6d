"""Dual attention: between similar pixels, and between similar channels.

Source: Fu et al., "Dual attention network for scene segmentation", CVPR 2019.
Position (equations 1 and 2): s_ji = softmax_i(B_i . C_j), and alpha sum_i s_ji D_i, with B, C and D by 1x1 convolutions
of the features A; B and C have an eighth of the channels, as in the authors' code.
Channel (equations 3 and 4): x_ji = softmax_i(A_i . A_j), and beta sum_i x_ji A_i, without a layer.
Deviations: the block is A plus the two, so that it keeps the number of channels and fits into any network; the paper's
head has 3x3 convolutions around each, with a quarter of the channels, and adds the two of them. The dot products of
channels are divided by the number of pixels, with which they grow: undivided, the softmax over 512 rectified random
channels of 330 pixels is exactly 1 at the channel itself, and it changes with the size of the image. alpha and beta
begin at 0.1 where the paper has 0: with 0 the layers get no gradient in the first step. No biases.
"""

import torch
from torch import nn

from segpipe.models.parts.attention import Place
from segpipe.models.parts.attention.parts.dot_product import attend

PLACE: Place = "deepest map"
INITIAL_SCALE = 0.1


class DualAttention(nn.Module):
    """Adds to features (N, channels, H, W) their position attention and their channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        num_between = max(1, channels // 8)
        self.query = nn.Conv2d(channels, num_between, 1, bias=False)
        self.key = nn.Conv2d(channels, num_between, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.alpha = nn.Parameter(torch.tensor(INITIAL_SCALE))
        self.beta = nn.Parameter(torch.tensor(INITIAL_SCALE))

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives features of the same shape."""
        position_NCHW = self.alpha * self.attend_to_positions(features_NCHW)
        return features_NCHW + position_NCHW + self.beta * attend_to_channels(features_NCHW)

    def attend_to_positions(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives, for each pixel, the mean of D over all pixels, weighed by softmax(B . C)."""
        query_NPC, key_NPC, value_NPC = (
            layer(features_NCHW).flatten(2).mT for layer in (self.query, self.key, self.value)
        )
        return attend(query_NPC, key_NPC, value_NPC, scale=1.0).mT.unflatten(2, features_NCHW.shape[-2:])


def attend_to_channels(features_NCHW: torch.Tensor) -> torch.Tensor:
    """Gives, for each channel, the mean of all channels, weighed by softmax(A . A / number of pixels)."""
    channels_NCP = features_NCHW.flatten(2)
    query_NCP = channels_NCP / channels_NCP.shape[2]
    return attend(query_NCP, channels_NCP, channels_NCP, scale=1.0).unflatten(2, features_NCHW.shape[-2:])


def build_block(*, channels: int) -> nn.Module:
    """Builds the block for features (N, channels, H, W)."""
    return DualAttention(channels)
