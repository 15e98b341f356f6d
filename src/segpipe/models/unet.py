"""U-Net with a configurable width and depth.

Source: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.
Deviations: convolutions are padded, so that the output has the input's size (the paper's are not, and it crops);
batch normalisation after each of them, without which training from scratch takes many times as long; no dropout.
"""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Contracting path, expanding path, and a copy of each resolution's features across.

    Args:
        num_classes: channels of the output.
        width: channels at full resolution; each halving doubles them. 64 in the paper.
        depth: number of halvings. 4 in the paper.
    """

    def __init__(self, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        pairs = list(pairwise(channels))
        self.first = _double_conv(3, width)
        self.down = nn.ModuleList(_double_conv(narrow, wide) for narrow, wide in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, narrow, 2, stride=2) for narrow, wide in reversed(pairs))
        self.merge = nn.ModuleList(_double_conv(wide, narrow) for narrow, wide in reversed(pairs))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives logits (N, num_classes, H, W) for images (N, 3, H, W)."""
        features_NCHW = self.first(images_NCHW)
        skips = []
        for down in self.down:
            skips.append(features_NCHW)
            # ceil_mode: an odd size keeps its last row and column.
            features_NCHW = down(F.max_pool2d(features_NCHW, 2, ceil_mode=True))
        for up, merge, skip_NCHW in zip(self.up, self.merge, reversed(skips), strict=True):
            upsampled_NCHW = up(features_NCHW)[..., : skip_NCHW.shape[-2], : skip_NCHW.shape[-1]]
            features_NCHW = merge(torch.cat([skip_NCHW, upsampled_NCHW], dim=1))
        logits_NCHW: torch.Tensor = self.head(features_NCHW)
        return logits_NCHW


def build_model(
    *,
    num_classes: int,
    width: Annotated[int, Field(ge=1)] = 64,
    depth: Annotated[int, Field(ge=1, le=6)] = 4,
) -> nn.Module:
    """Builds a `UNet`; the defaults are the paper's 31.0 million parameters."""
    return UNet(num_classes, width, depth)
