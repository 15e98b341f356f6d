"""Residual U-Net: short skips around each block, long ones across from the contracting to the expanding path.

Source: Drozdzal, Vorontsov, Chartrand, Kadoury, Pal, "The importance of skip connections in biomedical image
segmentation", DLMIA 2016, figure 2 and table 1, and the authors' code (fcn_maker).
Blocks have batch norm and ReLU before each convolution (He et al., "Identity mappings in deep residual networks", ECCV
2016). A simple block with as many channels as the first convolution makes the first halving (two make the first two in
the authors' code: `num_simple_blocks: 2`); stages of bottleneck blocks make the others, each with twice the channels. A
stage of the expanding path mirrors one of the contracting path. Long skips add, they do not join.
Deviations: the maximum pooling of simple blocks rounds up, as the strides do, so that odd sizes keep their last row.
No dropout by default. The paper's up-sampling, which repeats pixels, stands between a block's last 1x1 convolution and
the ReLU before it; here it is done after the block, and after the 1x1 convolution that brings the channels to those of
the long skip. All these work on single pixels, so that the result is the same, for a quarter of the operations.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import check_attention, deepest_block, local_block, skip_gate
from segpipe.models.parts.card import Card
from segpipe.models.parts.unet import AuxiliaryHeads, he_conv
from segpipe.models.parts.upsampling import crop_to

CARD = Card(
    "segpipe",
    "Drozdzal et al., The importance of skip connections in biomedical image segmentation, DLMIA 2016",
    small={"width": 4, "num_blocks": [1, 2, 1]},
)


class _NormReluConv(nn.Sequential):
    """Batch norm, ReLU, then a convolution, in this order; a stride is for 1x1 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, kernel_px: int, stride: int = 1) -> None:
        conv = he_conv(in_channels, out_channels, kernel_px, padding_px=kernel_px // 2, bias=False)
        super().__init__(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv)
        self.stride = stride

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        norm, relu, conv = self
        # Not as the convolution's stride: with fewer than 16 channels, oneDNN 3.12 then writes past its buffer in the
        # backward pass (oneDNN issue 6035).
        convolved_NCHW: torch.Tensor = conv(relu(norm(features_NCHW))[..., :: self.stride, :: self.stride])
        return convolved_NCHW


class _SimpleBlock(nn.Module):
    """One 3x3 convolution with a short skip; figure 2 (d)."""

    def __init__(self, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            pool,
            he_conv(channels, channels, 3, padding_px=1, bias=False),
            nn.Dropout(dropout) if dropout else nn.Identity(),
        )
        self.stride = stride

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        return self.residual(features_NCHW) + features_NCHW[..., :: self.stride, :: self.stride]


class _BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last to four times the channels, with a short skip; figure 2 (b)."""

    def __init__(self, in_channels: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        out_channels = 4 * width
        self.residual = nn.Sequential(
            _NormReluConv(in_channels, width, 1, stride),
            _NormReluConv(width, width, 3),
            _NormReluConv(width, out_channels, 1),
            nn.Dropout(dropout) if dropout else nn.Identity(),
        )
        self.stride = stride
        is_identity = in_channels == out_channels
        self.shortcut = nn.Identity() if is_identity else he_conv(in_channels, out_channels, 1)

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        shortcut_NCHW = self.shortcut(features_NCHW[..., :: self.stride, :: self.stride])
        return self.residual(features_NCHW) + shortcut_NCHW


def _bottleneck_stage(in_channels: int, width: int, num_blocks: int, stride: int, dropout: float) -> nn.Sequential:
    first = _BottleneckBlock(in_channels, width, stride, dropout)
    others = (_BottleneckBlock(4 * width, width, 1, dropout) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *others)


class ResidualUNet(nn.Module):
    """Contracting and expanding path of residual blocks, with sums across.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        width: channels of the first convolution and of the simple blocks; the first bottleneck stage has four times as
            many, each further one doubles them.
        num_simple_blocks: simple blocks of each path.
        num_blocks: of the bottleneck stages of the contracting path, the last of them the deepest.
        dropout: probability, on what a block adds.
        attention: name of a block after each merge, on the deepest map, or on the skips; None: none.
        deep_supervision: gives, in training mode, logits of each level of the expanding path.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        num_simple_blocks: int,
        num_blocks: Sequence[int],
        dropout: float,
        attention: str | None,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        stage_widths = [width * 2**stage for stage in range(len(num_blocks))]
        channels = [width] * (1 + num_simple_blocks) + [4 * stage_width for stage_width in stage_widths]
        self.first = he_conv(in_channels, width, 3, padding_px=1)
        self.down = nn.ModuleList(_SimpleBlock(width, 2, dropout) for _ in range(num_simple_blocks))
        for before, stage_width, num in zip(channels[num_simple_blocks:-1], stage_widths, num_blocks, strict=True):
            self.down.append(_bottleneck_stage(before, stage_width, num, 2, dropout))
        self.deepest = deepest_block(attention, channels[-1])
        self.to_skip = nn.ModuleList()
        self.gate = nn.ModuleList()
        self.refine = nn.ModuleList()
        for level in reversed(range(len(self.down))):
            here, below = channels[level], channels[level + 1]
            self.to_skip.append(nn.Identity() if here == below else he_conv(below, here, 1))
            self.gate.append(skip_gate(attention, here, below))
            self.refine.append(local_block(attention, here))
        self.up = nn.ModuleList(
            _bottleneck_stage(4 * stage_width, stage_width, num, 1, dropout)
            for stage_width, num in zip(stage_widths[-2::-1], list(num_blocks)[-2::-1], strict=True)
        )
        self.up.extend(_SimpleBlock(width, 1, dropout) for _ in range(num_simple_blocks))
        self.up.append(_NormReluConv(width, width, 3))
        self.head = he_conv(width, num_classes, 1)
        self.auxiliary = AuxiliaryHeads(channels[1:-1] if deep_supervision else [], num_classes)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W); in training deep supervision's too."""
        features_NCHW = self.first(images_NCHW)
        skips = []
        for down in self.down:
            skips.append(features_NCHW)
            features_NCHW = down(features_NCHW)
        features_NCHW = self.deepest(features_NCHW)
        levels = []
        for to_skip, gate, refine, up in zip(self.to_skip, self.gate, self.refine, self.up, strict=True):
            skip_NCHW = gate(skips.pop(), features_NCHW)
            enlarged_NCHW = F.interpolate(to_skip(features_NCHW), scale_factor=2, mode="nearest")
            features_NCHW = up(refine(skip_NCHW + crop_to(enlarged_NCHW, skip_NCHW)))
            levels.append(features_NCHW)
        logits_NCHW: torch.Tensor = self.head(levels.pop())
        if not (self.training and len(self.auxiliary)):
            return logits_NCHW
        return logits_NCHW, *self.auxiliary(levels[::-1], logits_NCHW)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    width: Annotated[int, Field(ge=1)] = 32,
    num_simple_blocks: Annotated[int, Field(ge=1, le=2)] = 1,
    num_blocks: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=5)] = (3, 8, 10, 3),
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    attention: str | None = None,
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds a `ResidualUNet`; the defaults are the counts of table 1, with 11.4 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        width: channels at full resolution.
        num_simple_blocks: simple blocks of each path, one for each of the first halvings.
        num_blocks: bottleneck blocks of each stage of the contracting path, one stage for each further halving.
        dropout: probability, on what a block adds.
        attention: name of an attention block, at the places where it belongs.
        deep_supervision: whether the coarser levels of the expanding path give logits in training too.

    Raises:
        ConfigError: there is no such attention block.
    """
    check_attention("residual_unet", attention, has_skips=True)
    return ResidualUNet(
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        num_simple_blocks=num_simple_blocks,
        num_blocks=num_blocks,
        dropout=dropout,
        attention=attention,
        deep_supervision=deep_supervision,
    )
