"""The additive attention gate: a coarser level, with a larger receptive field, weights the pixels of a skip.

Source: Oktay et al., "Attention U-Net: learning where to look for the pancreas", MIDL 2018, equations 1 and 2:
a = sigmoid(psi^T relu(W_x x + W_g g + b_g) + b_psi) on the grid of the gating features g, resampled to that of the skip
x, and x a as output. As in the authors' code W_x is a 2x2 convolution of stride 2, W_x x and W_g g have half as many
channels as x, and b_psi begins at 3: a is then about 0.95, so that the gates begin open.
Deviations: no 1x1 convolution with batch norm after the gate, which is in the authors' code but not in the equations.
g may be of any size: it is resampled to half the skip's, which is its own size in a U-Net.
"""

import torch
import torch.nn.functional as F
from torch import nn

from segpipe.models.parts.attention import Place

PLACE: Place = "skip"
OPEN = 3.0


class AttentionGate(nn.Module):
    """Multiplies each pixel of a skip by a number between 0 and 1.

    Args:
        channels: of the skip.
        gating_channels: of the gating features.
    """

    def __init__(self, channels: int, gating_channels: int) -> None:
        super().__init__()
        num_between = max(1, channels // 2)
        self.from_skip = nn.Conv2d(channels, num_between, 2, stride=2, bias=False)
        self.from_gating = nn.Conv2d(gating_channels, num_between, 1)
        self.weigh = nn.Conv2d(num_between, 1, 1)
        assert self.weigh.bias is not None
        nn.init.constant_(self.weigh.bias, OPEN)

    def forward(self, skip_NCHW: torch.Tensor, gating_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives the skip (N, channels, H, W), weighed; `gating_NCHW` is (N, gating_channels, any, any)."""
        height_px, width_px = skip_NCHW.shape[-2:]
        # Half of an odd size is rounded up, as where a U-Net pools.
        skip_half_NCHW = self.from_skip(F.pad(skip_NCHW, (0, width_px % 2, 0, height_px % 2)))
        gating_half_NCHW = _resize(self.from_gating(gating_NCHW), skip_half_NCHW)
        weight_N1HW = self.weigh(F.relu(skip_half_NCHW + gating_half_NCHW)).sigmoid()
        return skip_NCHW * _resize(weight_N1HW, skip_NCHW)


def _resize(features_NCHW: torch.Tensor, like_NCHW: torch.Tensor) -> torch.Tensor:
    size = like_NCHW.shape[-2:]
    if features_NCHW.shape[-2:] == size:
        return features_NCHW
    return F.interpolate(features_NCHW, size, mode="bilinear", align_corners=False)


def build_block(*, channels: int, gating_channels: int) -> nn.Module:
    """Builds the gate for a skip (N, channels, H, W) and gating features (N, gating_channels, any, any)."""
    return AttentionGate(channels, gating_channels)
