"""SegNet: VGG16 as encoder, and a mirrored decoder that puts each value back where its pooling found it.

Source: Badrinarayanan, Kendall and Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
segmentation", TPAMI 2017, section 3; the widths are those of figure 2 and the authors' code.
Deviations:
- Odd sizes keep their last row and column (`ceil_mode`), and un-pooling gives back exactly the size before.
- Positions are held as int64, which autograd needs; the paper counts two bits a window.
- The images' local contrast is not normalised first; that is left to preprocessing.
The option attention adds blocks on the encoder's last map or after each stage of the decoder. There are no skips.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import check_attention, deepest_block, local_block
from segpipe.models.parts.card import Card
from segpipe.models.parts.vgg16 import (
    build_stages,
    check_width_is_published,
    fetch_imagenet_weights,
    initialise_relu_layers,
    list_stage_widths,
    rename_stages,
)

CARD = Card(
    "segpipe",
    "Badrinarayanan, Kendall and Cipolla, SegNet: a deep convolutional encoder-decoder architecture, TPAMI 2017",
    published=(11, 29.5e6),
    small={"width": 8},
)


class _UnpoolableVGG16(nn.Module):
    """VGG16's thirteen convolutions with batch norms; remembers where each pooling found its values."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.stages = build_stages(in_channels, width, batch_norm=True)

    def forward(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Size]]]:
        """Gives the map at 1/32, and for each pooling its positions (see `unpool`) and the size (h, w) before it."""
        poolings = []
        features_NCHW = images_NCHW
        for stage in self.stages:
            features_NCHW = stage(features_NCHW)
            size = features_NCHW.shape[-2:]
            features_NCHW, positions_NCHW = F.max_pool2d(features_NCHW, 2, ceil_mode=True, return_indices=True)
            poolings.append((positions_NCHW, size))
        return features_NCHW, poolings

    def rename_classifier(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Gives torchvision's VGG16 with batch norms by the names of this encoder; empty if it is none."""
        return rename_stages(self.stages, state)


class SegNet(nn.Module):
    """VGG16's convolutions down, and thirteen more up in the opposite order, the last of which gives the logits.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        width: channels of the encoder's first stage and of the decoder's last.
        attention: name of an attention block, or None.
    """

    def __init__(self, num_classes: int, in_channels: int, width: int, attention: str | None = None) -> None:
        super().__init__()
        self.encoder = _UnpoolableVGG16(in_channels, width)
        self.decoder = _build_decoder(width)
        self.head = nn.Conv2d(width, num_classes, 3, padding=1)
        # Built after the layers, so that their initial weights are the same with and without attention.
        widths = list_stage_widths(width)[::-1]
        self.deepest = deepest_block(attention, widths[0])
        self.refine = nn.ModuleList(local_block(attention, narrow) for narrow in [*widths[1:], width])

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W)."""
        features_NCHW, poolings = self.encoder(images_NCHW)
        features_NCHW = self.deepest(features_NCHW)
        levels = zip(self.decoder, self.refine, reversed(poolings), strict=True)
        for stage, refine, (positions_NCHW, size) in levels:
            features_NCHW = refine(stage(unpool(features_NCHW, positions_NCHW, size)))
        return self.head(features_NCHW)


def unpool(features_NCHW: torch.Tensor, positions_NCHW: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Puts values back to where a max pooling found them, with zeros elsewhere.

    Equal to `F.max_unpool2d`, which torch counts as non-deterministic on CUDA because two positions might be the same.
    Positions of windows that do not overlap are always different, and the gradient only reads.

    The memory format is kept (L in names: a map's cells in one row).

    Args:
        features_NCHW: (N, C, h, w) float.
        positions_NCHW: (N, C, h, w) int64, row * W + column in the map before the pooling; all of a channel different.
        size: (H, W) of that map.

    Returns:
        (N, C, H, W).
    """
    num_images, channels = features_NCHW.shape[:2]
    if features_NCHW.is_contiguous(memory_format=torch.channels_last):
        positions_NLC, features_NLC = (x.permute(0, 2, 3, 1).flatten(1, 2) for x in (positions_NCHW, features_NCHW))
        zeros_NLC = features_NCHW.new_zeros(num_images, size[0] * size[1], channels)
        return zeros_NLC.scatter_(1, positions_NLC, features_NLC).unflatten(1, size).permute(0, 3, 1, 2)
    zeros_NCL = features_NCHW.new_zeros(num_images, channels, size[0] * size[1])
    return zeros_NCL.scatter_(2, positions_NCHW.flatten(2), features_NCHW.flatten(2)).unflatten(2, size)


def _build_decoder(width: int) -> nn.ModuleList:
    stages = nn.ModuleList()
    widths = list_stage_widths(width)[::-1]
    # The head is the thirteenth convolution, so the last stage has one less than the encoder's first.
    for num_convs, wide, narrow in zip((3, 3, 3, 2, 1), widths, [*widths[1:], width], strict=True):
        layers: list[nn.Module] = []
        for index in range(num_convs):
            out_channels = narrow if index == num_convs - 1 else wide
            layers += [nn.Conv2d(wide, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        stages.append(nn.Sequential(*layers))
    initialise_relu_layers(stages)
    return stages


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    width: Annotated[int, Field(ge=1)] = 64,
    attention: str | None = None,
) -> nn.Module:
    """Builds a `SegNet`; by default as published.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with VGG16's weights from ImageNet, those with batch norms.
        width: channels of the first stage; 2, 4, 8 and 8 times as many in the others. ImageNet's weights need 64.
        attention: name of an attention block for single maps, at the places where it belongs.

    Raises:
        ConfigError: `pretrained` with another width than 64, or there is no such attention block or no place for it.
    """
    check_width_is_published(width, pretrained=pretrained)
    check_attention("segnet_vgg16", attention, has_skips=False)
    module = SegNet(num_classes, in_channels, width, attention)
    if pretrained:
        module.encoder.load_state_dict(module.encoder.rename_classifier(fetch_imagenet_weights(batch_norm=True)))
    return module
