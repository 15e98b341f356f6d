"""The structure of the U-Nets: a contracting path, an expanding path, and a skip at each level.

Source: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.

Level 0 is the image's resolution; each level below has half the height and width. Poolings round up (`ceil_mode`), so
that an odd size keeps its last row and column, and the surplus of an enlarged map is cut off.
Without padding a map loses two pixels a side at each pair of convolutions. The map of level k then begins
2 (2^k - 1) pixels of the image before the logits do, and the whole network needs 6 * 2^depth - 4 pixels around them.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from segpipe.models.parts.attention import deepest_block, local_block, skip_gate
from segpipe.models.parts.upsampling import crop_to, upsample_bilinear

Padding = Literal["same", "valid"]
UpSampling = Literal["transposed", "bilinear", "nearest"]


def he_conv(
    in_channels: int, out_channels: int, kernel_px: int, *, padding_px: int = 0, bias: bool = True
) -> nn.Conv2d:
    """Gives a convolution that begins with weights of standard deviation sqrt(2/N), N numbers going into each output.

    Source: Ronneberger et al., section 3; He et al., "Delving deep into rectifiers", ICCV 2015, equation 10.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_px, padding=padding_px, bias=bias)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def double_conv(
    in_channels: int, out_channels: int, padding: Padding = "same", batch_norm: bool = True
) -> nn.Sequential:
    """Gives two 3x3 convolutions, each with batch norm where asked for, and ReLU.

    Returns:
        (N, in_channels, h, w) -> (N, out_channels, h, w), or (N, out_channels, h - 4, w - 4) without padding.
    """
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        # A bias before batch norm would be subtracted again.
        layers.append(he_conv(channels, out_channels, 3, padding_px=int(padding == "same"), bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def up_sampling_layer(kind: UpSampling, in_channels: int, out_channels: int) -> nn.Module:
    """Gives a layer that doubles height and width, (N, in_channels, h, w) -> (N, out_channels, 2h, 2w).

    Args:
        kind: `transposed`: a transposed convolution of kernel 2 and stride 2; the stride divides the kernel, so that
            all pixels get equally many terms and no checkerboard arises (Odena et al., "Deconvolution and checkerboard
            artifacts", Distill 2016). `bilinear`, `nearest`: resizing, then a 3x3 convolution; 2x2, as the paper has
            it, would shift the map by half a pixel. The gradient of `bilinear` is not deterministic on CUDA.
        in_channels: of the map.
        out_channels: of the doubled map.
    """
    if kind == "transposed":
        conv = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        # Each output pixel gets one number of each input channel.
        nn.init.normal_(conv.weight, std=(2 / in_channels) ** 0.5)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        return conv
    resize = nn.Upsample(scale_factor=2, mode=kind, align_corners=False if kind == "bilinear" else None)
    return nn.Sequential(resize, he_conv(in_channels, out_channels, 3, padding_px=1))


class AuxiliaryHeads(nn.ModuleList):
    """1x1 classifiers on coarser levels, for deep supervision in training.

    Source: Lee et al., "Deeply-supervised nets", AISTATS 2015.

    Args:
        channels: of the map of each level, from level 1 down.
        num_classes: channels of the logits.
    """

    def __init__(self, channels: list[int], num_classes: int) -> None:
        super().__init__(he_conv(width, num_classes, 1) for width in channels)

    def forward(
        self, levels: list[torch.Tensor], logits_NCHW: torch.Tensor, num_lost_px: int = 0
    ) -> tuple[torch.Tensor, ...]:
        """Gives the logits (N, num_classes, H, W) of each level, enlarged so that they lie upon the main ones.

        Args:
            levels: maps (N, channels, h, w) of level 1, 2, ...
            logits_NCHW: the main logits, for their size.
            num_lost_px: pixels a side that a map loses between up-sampling and the next.
        """
        outputs = []
        for level, (head, features_NCHW) in enumerate(zip(self, levels, strict=True), start=1):
            first_px = num_lost_px * (2**level - 1)
            enlarged_NCHW = upsample_bilinear(head(features_NCHW), 2**level)[..., first_px:, first_px:]
            outputs.append(crop_to(enlarged_NCHW, logits_NCHW))
        return tuple(outputs)


class UNet(nn.Module):
    """Contracting path, expanding path, and a copy of each resolution's features across.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        width: channels at level 0; each halving doubles them.
        depth: number of halvings.
        padding: `same`: convolutions keep the size. `valid`: they take whole neighbourhoods only, and the images are
            continued by their mirror image; the paper's overlap-tile strategy, with the image as the only tile.
            Only with `transposed`: the other ways of up-sampling continue a map beyond its edge.
        up_sampling: see `up_sampling_layer`.
        batch_norm: after each convolution of 3x3, except those that are part of up-sampling.
        dropout: probability, on the two last levels of the contracting path.
        attention: name of a block after each merge, on the deepest map, or on the skips; None: none.
        gates_level_0: whether a block for skips stands on that of level 0 too.
        deep_supervision: gives, in training mode, logits of each level of the expanding path.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        depth: int,
        padding: Padding = "same",
        up_sampling: UpSampling = "transposed",
        batch_norm: bool = True,
        dropout: float = 0.0,
        attention: str | None = None,
        gates_level_0: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        assert padding == "same" or up_sampling == "transposed"
        self.padding = padding
        channels = [width * 2**level for level in range(depth + 1)]
        pairs = list(pairwise(channels))
        self.first = double_conv(in_channels, width, padding, batch_norm)
        self.down = nn.ModuleList(double_conv(narrow, wide, padding, batch_norm) for narrow, wide in pairs)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.deepest = deepest_block(attention, channels[-1])
        pairs.reverse()
        gates = [attention] * (depth - 1) + [attention if gates_level_0 else None]
        self.gate = nn.ModuleList(
            skip_gate(name, narrow, wide) for name, (narrow, wide) in zip(gates, pairs, strict=True)
        )
        self.up = nn.ModuleList(up_sampling_layer(up_sampling, wide, narrow) for narrow, wide in pairs)
        self.merge = nn.ModuleList(double_conv(wide, narrow, padding, batch_norm) for narrow, wide in pairs)
        self.refine = nn.ModuleList(local_block(attention, narrow) for narrow, _ in pairs)
        self.head = he_conv(width, num_classes, 1)
        self.auxiliary = AuxiliaryHeads(channels[1:-1] if deep_supervision else [], num_classes)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W); in training deep supervision's too."""
        maps = self.contract(mirror_around(images_NCHW, len(self.down)) if self.padding == "valid" else images_NCHW)
        levels = self.expand(maps)
        logits_NCHW: torch.Tensor = crop_to(self.head(levels[0]), images_NCHW)
        if not (self.training and len(self.auxiliary)):
            return logits_NCHW
        num_lost_px = 2 if self.padding == "valid" else 0
        return logits_NCHW, *self.auxiliary(levels[1:], logits_NCHW, num_lost_px)

    def contract(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        """Gives the maps of the contracting path, level 0 first."""
        maps = [self.first(images_NCHW)]
        for level, down in enumerate(self.down, start=1):
            if level == len(self.down):
                maps[-1] = self.drop(maps[-1])
            maps.append(down(F.max_pool2d(maps[-1], 2, ceil_mode=True)))
        maps[-1] = self.drop(maps[-1])
        return maps

    def expand(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Gives the maps of the expanding path, level 0 first, for those of the contracting path."""
        *skips, features_NCHW = maps
        features_NCHW = self.deepest(features_NCHW)
        levels = []
        for gate, up, merge, refine in zip(self.gate, self.up, self.merge, self.refine, strict=True):
            skip_NCHW, upsampled_NCHW = _align(skips.pop(), up(features_NCHW))
            merged_NCHW = torch.cat([gate(skip_NCHW, features_NCHW), upsampled_NCHW], dim=1)
            features_NCHW = refine(merge(merged_NCHW))
            levels.append(features_NCHW)
        return levels[::-1]


def _align(skip_NCHW: torch.Tensor, upsampled_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts both maps to their common part; gives views, without copies.

    With padding the up-sampled map may be one pixel larger, at the right and below. Without, the skip is larger, on all
    sides equally.
    """
    top_px, left_px = (
        max(0, skip_px - upsampled_px) // 2
        for skip_px, upsampled_px in zip(skip_NCHW.shape[-2:], upsampled_NCHW.shape[-2:], strict=True)
    )
    skip_NCHW = crop_to(skip_NCHW[..., top_px:, left_px:], upsampled_NCHW)
    return skip_NCHW, crop_to(upsampled_NCHW, skip_NCHW)


def mirror_around(images_NCHW: torch.Tensor, depth: int) -> torch.Tensor:
    """Continues images by their mirror image, so that a U-Net without padding gives logits for each of their pixels.

    Source: Ronneberger et al., figure 2. All poolings of the network get maps of even size.

    Args:
        images_NCHW: (N, C, H, W), H and W at least 5; smaller ones than the margin are mirrored again and again.
        depth: number of halvings.

    Returns:
        (N, C, H', W'): 6 * 2^depth - 4 pixels more at the left and above, and at least as many at the right and below.
    """
    rows, columns = (_mirrored_positions(size_px, depth, images_NCHW.device) for size_px in images_NCHW.shape[-2:])
    return images_NCHW.index_select(-2, rows).index_select(-1, columns)


def _mirrored_positions(size_px: int, depth: int, device: torch.device) -> torch.Tensor:
    """Gives, for each row of the continued image, the row of the image that it repeats; int64 (H',)."""
    deepest_px = -(-(size_px - 4) // 2**depth) + 8
    continued_px = 2**depth * (deepest_px + 4) - 4
    period_px = 2 * (size_px - 1)
    position_px = (torch.arange(continued_px, device=device) - (6 * 2**depth - 4)).remainder(period_px)
    return torch.minimum(position_px, period_px - position_px)
