"""Bilinear resizing that keeps the centres of cells in place, where smp keeps the corners of maps in place.

With the corners in place (`align_corners=True`) a cell lies up to (s - 1) / 2 px off the centre of the s x s px that it
stands for, and how far depends on the width of the whole map: a tile of an image and the image differ.
"""

from functools import singledispatch

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead, FusionBlock
from segmentation_models_pytorch.decoders.fpn.decoder import Conv3x3GNReLU
from segmentation_models_pytorch.decoders.pan.decoder import FPABlock, GAUBlock
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import nn


def keep_centres(network: nn.Module) -> None:
    """Makes every bilinear resizing in a network of smp keep the centres of cells; no parameter changes its name."""
    for module in list(network.modules()):
        _keep_centres(module)


@singledispatch
def _keep_centres(module: nn.Module) -> None:
    """Changes one module; those that resize have a function of their own below."""


@_keep_centres.register
def _(module: nn.Upsample) -> None:
    if module.align_corners:
        module.align_corners = False


@_keep_centres.register
def _(module: FPABlock | GAUBlock) -> None:
    if module.align_corners:
        module.align_corners = False


@_keep_centres.register
def _(module: Conv3x3GNReLU) -> None:
    if module.upsample:
        module.upsample = False
        module.block.append(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))


@_keep_centres.register
def _(module: PSPBlock) -> None:
    module.__class__ = _CentredPSPBlock


@_keep_centres.register
def _(module: FusionBlock) -> None:
    module.__class__ = _CentredFusionBlock


@_keep_centres.register
def _(module: DPTSegmentationHead) -> None:
    module.__class__ = _CentredDPTHead


# The three classes below replace `forward` alone: smp's writes `align_corners=True` in its body.


class _CentredPSPBlock(PSPBlock):
    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        pooled_NCHW = self.pool(features_NCHW)
        return F.interpolate(pooled_NCHW, features_NCHW.shape[-2:], mode="bilinear", align_corners=False)


class _CentredFusionBlock(FusionBlock):
    def forward(self, feature: torch.Tensor, previous_feature: torch.Tensor | None = None) -> torch.Tensor:
        feature = self.residual_conv_block1(feature)
        if previous_feature is not None:
            feature = feature + previous_feature
        feature = self.residual_conv_block2(feature)
        projected: torch.Tensor = self.project(
            F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)
        )
        return projected


class _CentredDPTHead(DPTSegmentationHead):
    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NCHW = self.head(features_NCHW)
        return F.interpolate(logits_NCHW, scale_factor=self.upsampling_factor, mode="bilinear", align_corners=False)
