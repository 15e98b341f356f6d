"""A small residual encoder with a feature-pyramid decoder, for trainings of minutes on a CPU.

Sources: the residual block of He et al., "Deep residual learning", CVPR 2016 (figure 2, left); the top-down pathway of
Lin et al., "Feature pyramid networks", CVPR 2017, merged to one map as in Kirillov et al., "Panoptic feature pyramid
networks", CVPR 2019; the image-level context of Liu et al., "ParseNet", arXiv:1506.04579.
Deviations: the pyramid goes on to half resolution, where poles and signs are still a pixel wide; two blocks a stage.
The option attention adds, depending on the block: a block on the encoder's deepest map; or gates on the laterals and on
the stem's map, by the coarser pyramid; or blocks on the pyramid after each addition and on the map at half resolution.
"""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import check_attention, deepest_block, local_block, skip_gate
from segpipe.models.parts.card import Card

CARD = Card("segpipe", "Lin et al., Feature pyramid networks for object detection, CVPR 2017")


def _conv_bn(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = _conv_bn(in_channels, out_channels, stride=stride)
        self.second = _conv_bn(out_channels, out_channels)
        is_identity = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if is_identity else _conv_bn(in_channels, out_channels, 1, stride)

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        residual_NCHW = self.second(F.relu(self.first(features_NCHW), inplace=True))
        return F.relu(residual_NCHW + self.shortcut(features_NCHW), inplace=True)


class CompactFPN(nn.Module):
    """Encoder to 1/32, pyramid back to 1/2, logits resized to the input.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        width: channels at 1/4 resolution; 2, 4 and 6 times as many at 1/8, 1/16 and 1/32.
        pyramid_width: channels of the pyramid.
        attention: name of an attention block, or None.
    """

    def __init__(
        self, num_classes: int, in_channels: int, width: int, pyramid_width: int, attention: str | None = None
    ) -> None:
        super().__init__()
        stem_width = max(16, width // 2)
        widths = [stem_width, width, 2 * width, 4 * width, 6 * width]
        self.stem = nn.Sequential(_conv_bn(in_channels, stem_width, stride=2), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList(
            nn.Sequential(_ResidualBlock(narrow, wide, 2), _ResidualBlock(wide, wide, 1))
            for narrow, wide in pairwise(widths)
        )
        self.context = nn.Conv2d(widths[-1], pyramid_width, 1)
        self.laterals = nn.ModuleList(_conv_bn(channels, pyramid_width, 1) for channels in widths[1:])
        self.smooth = nn.Sequential(_conv_bn(pyramid_width, pyramid_width), nn.ReLU(inplace=True))
        self.fine = nn.Sequential(_conv_bn(pyramid_width + stem_width, pyramid_width // 2), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(pyramid_width // 2, num_classes, 1)
        # Built after the layers, so that their initial weights are the same with and without attention. Coarse to fine.
        skip_widths = [pyramid_width] * (len(self.laterals) - 1) + [stem_width]
        merged_widths = [pyramid_width] * (len(self.laterals) - 1) + [pyramid_width // 2]
        self.deepest = deepest_block(attention, widths[-1])
        self.gate = nn.ModuleList(skip_gate(attention, skip_width, pyramid_width) for skip_width in skip_widths)
        self.refine = nn.ModuleList(local_block(attention, merged_width) for merged_width in merged_widths)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W)."""
        stem_NCHW = self.stem(images_NCHW)
        levels = []
        features_NCHW = stem_NCHW
        for stage in self.stages:
            features_NCHW = stage(features_NCHW)
            levels.append(features_NCHW)
        deepest_NCHW = self.deepest(levels.pop())
        pyramid_NCHW = self.laterals[-1](deepest_NCHW) + self.context(deepest_NCHW.mean(dim=(2, 3), keepdim=True))
        merges = zip(reversed(self.laterals[:-1]), reversed(levels), self.gate[:-1], self.refine[:-1], strict=True)
        for lateral, level_NCHW, gate, refine in merges:
            merged_NCHW = gate(lateral(level_NCHW), pyramid_NCHW) + _resize(pyramid_NCHW, level_NCHW)
            pyramid_NCHW = refine(merged_NCHW)
        smooth_NCHW = _resize(self.smooth(F.relu(pyramid_NCHW)), stem_NCHW)
        fine_NCHW = torch.cat([smooth_NCHW, self.gate[-1](stem_NCHW, pyramid_NCHW)], dim=1)
        return _resize(self.head(self.refine[-1](self.fine(fine_NCHW))), images_NCHW)


def _resize(features_NCHW: torch.Tensor, like_NCHW: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features_NCHW, like_NCHW.shape[-2:], mode="bilinear", align_corners=False)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    width: Annotated[int, Field(ge=8)] = 32,
    pyramid_width: Annotated[int, Field(ge=8)] = 64,
    attention: str | None = None,
) -> nn.Module:
    """Builds a `CompactFPN`; the defaults are 2.0 million parameters.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        width: channels at 1/4 resolution; 2, 4 and 6 times as many at 1/8, 1/16 and 1/32.
        pyramid_width: channels of the pyramid.
        attention: name of an attention block, at the places where it belongs.

    Raises:
        ConfigError: there is no such attention block.
    """
    check_attention("compact_fpn", attention, has_skips=True)
    return CompactFPN(num_classes, in_channels, width, pyramid_width, attention)
