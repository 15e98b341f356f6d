"""A network of smp in its parts, for images of any size.

Legend: N samples, C channels, H rows, W columns.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from segpipe.models.parts.attention import Refinement
from segpipe.models.parts.smp.architecture import Architecture
from segpipe.models.parts.smp.encoders import IMAGENET, Statistics
from segpipe.models.parts.smp.pooling import make_poolings_deterministic
from segpipe.models.parts.smp.resizing import keep_centres

# Batch norm of torch; smaller ones of encoders are raised to it.
LEAST_MOMENTUM = 0.1


class SmpSegmentation(nn.Module):
    """A network of smp in its parts, for images of any size.

    Args:
        network: smp's network.
        architecture: its requirements.
        num_classes: channels of the auxiliary logits.
        attention: name of the blocks that refine the encoder's feature maps before the decoder takes them, or None.
        auxiliary: whether a second head gives logits from the encoder's second deepest map in training.
        statistics: by which the encoder's images are to be normalised.

    Raises:
        ConfigError: there is no such block, or this network has no place for it.
    """

    def __init__(
        self,
        network: nn.Module,
        architecture: Architecture,
        num_classes: int,
        attention: str | None,
        auxiliary: bool,
        statistics: Statistics = IMAGENET,
    ) -> None:
        super().__init__()
        self.rescaling = _Rescaling(statistics) if statistics != IMAGENET else None
        self.multiple_px, self.min_side_px = architecture.multiple_px, architecture.min_side_px
        self.encoder = network.get_submodule("encoder")
        self.decoder = network.get_submodule("decoder")
        self.head = network.get_submodule("segmentation_head")
        channels: list[int] = list(cast("Sequence[int]", self.encoder.out_channels))
        self.refinement = _build_refinement(attention, architecture, channels) if attention is not None else None
        self.auxiliary = FCNHead(channels[-2], num_classes) if auxiliary else None
        _quicken_running_statistics(self.encoder)
        make_poolings_deterministic(self.decoder)
        if not architecture.align_corners:
            keep_centres(self)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W).

        In training, with an auxiliary head, a tuple: these, and the auxiliary logits at the resolution of the map that
        they come from; where the image had to be padded they are resized to it.
        """
        if self.rescaling is not None:
            images_NCHW = self.rescaling(images_NCHW)
        padded_NCHW = self.pad(images_NCHW)
        features, tokens = self.encode(padded_NCHW)
        refined = features if self.refinement is None else self.refinement(features)
        logits_NCHW = _cut(self.head(self.decoder(refined, *tokens)), images_NCHW)
        if self.auxiliary is None or not self.training:
            return logits_NCHW
        auxiliary_NCHW = self.auxiliary(features[-2])
        if padded_NCHW.shape == images_NCHW.shape:
            return logits_NCHW, auxiliary_NCHW
        resized_NCHW = F.interpolate(auxiliary_NCHW, padded_NCHW.shape[-2:], mode="bilinear", align_corners=False)
        return logits_NCHW, _cut(resized_NCHW, images_NCHW)

    def pad(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Pads images with zeros at the right and below to a size that encoder and decoder can take."""
        height_px, width_px = (
            # Of positive numbers: ONNX rounds quotients of negative ones towards zero.
            (torch.sym_max(side_px, self.min_side_px) + self.multiple_px - 1) // self.multiple_px * self.multiple_px
            for side_px in images_NCHW.shape[-2:]
        )
        right_px, below_px = width_px - images_NCHW.shape[-1], height_px - images_NCHW.shape[-2]
        # An export must not look at numbers: it would hold for the images that it was made with alone.
        if torch.compiler.is_exporting() or right_px or below_px:
            return F.pad(images_NCHW, cast("tuple[int, ...]", (0, right_px, 0, below_px)))
        return images_NCHW

    def encode(self, padded_NCHW: torch.Tensor) -> tuple[list[torch.Tensor], list[Any]]:
        """Gives the encoder's feature maps, and what else the decoder takes: of a ViT, its class tokens."""
        encoded = self.encoder(padded_NCHW)
        features, *tokens = encoded if isinstance(encoded, tuple) else (encoded,)
        return features, tokens


class _Rescaling(nn.Module):
    """Takes images (N, 3, H, W) from ImageNet's normalisation to another.

    Args:
        statistics: mean and standard deviation of the other.
    """

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        (from_mean, from_std), (to_mean, to_std) = (map(torch.tensor, pair) for pair in (IMAGENET, statistics))
        # Not saved with the weights: the encoder's name says them.
        self.register_buffer("scale", (from_std / to_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((from_mean - to_mean) / to_std).view(3, 1, 1), persistent=False)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW * self.get_buffer("scale") + self.get_buffer("shift")


def _build_refinement(attention: str, architecture: Architecture, channels: Sequence[int]) -> Refinement:
    return Refinement(attention, [width if level in architecture.levels else 0 for level, width in enumerate(channels)])


def _quicken_running_statistics(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is not None:
            module.momentum = max(module.momentum, LEAST_MOMENTUM)


def _cut(padded_NCHW: torch.Tensor, images_NCHW: torch.Tensor) -> torch.Tensor:
    height_px, width_px = images_NCHW.shape[-2:]
    return padded_NCHW[..., :height_px, :width_px]
