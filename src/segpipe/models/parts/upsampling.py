"""Enlarges maps by an integer factor so that they stay aligned with the image.

Cell (i, j) of a map with stride s describes the pixels s*i .. s*i + s - 1, s*j .. s*j + s - 1. Poolings with
`ceil_mode` keep this rule for every size: the last cell may reach over the image's right or lower edge. So a map is
enlarged by exactly s, never fitted to the image's size, and the part beyond the image is cut off.
"""

import torch
import torch.nn.functional as F
from torch import nn


def bilinear_transposed_conv(channels: int, stride: int) -> nn.ConvTranspose2d:
    """Gives a transposed convolution that begins as bilinear interpolation of each channel by itself.

    Every channel may learn to take from every other. The kernel is twice the stride (one less where the stride is odd),
    as in Long et al., "Fully convolutional networks", CVPR 2015, section 3.3, and its reference code.
    Differs from `F.interpolate` at the map's rim alone: outside the map there are zeros, not its outermost cells, so
    the outermost stride/2 pixels begin weaker.

    Args:
        channels: of input and output, at least 1.
        stride: factor of enlargement, at least 1.

    Returns:
        (N, channels, h, w) -> (N, channels, stride * h, stride * w), without bias.
    """
    kernel_px = 2 * stride - stride % 2
    conv = nn.ConvTranspose2d(channels, channels, kernel_px, stride, padding=(kernel_px - stride) // 2, bias=False)
    position_px = torch.arange(kernel_px, device=conv.weight.device, dtype=conv.weight.dtype)
    tent = 1 - (position_px - (kernel_px - 1) / 2).abs() / stride
    nn.init.zeros_(conv.weight)
    with torch.no_grad():
        conv.weight.diagonal(dim1=0, dim2=1).copy_(torch.outer(tent, tent)[..., None])
    return conv


def upsample_bilinear(features_NCHW: torch.Tensor, stride: int) -> torch.Tensor:
    """Enlarges a map by bilinear interpolation, with its outermost cells repeated outside.

    On CUDA its gradient is deterministic only under `torch.use_deterministic_algorithms`, which selects another
    implementation.

    Args:
        features_NCHW: (N, C, h, w) float.
        stride: factor of enlargement, at least 1.

    Returns:
        (N, C, stride * h, stride * w).
    """
    return F.interpolate(features_NCHW, scale_factor=stride, mode="bilinear", align_corners=False)


def crop_to(features_NCHW: torch.Tensor, like_NCHW: torch.Tensor) -> torch.Tensor:
    """Cuts off the surplus of an enlarged map at the right and below; gives a view, without a copy.

    Args:
        features_NCHW: (N, C, h, w), at least as large as `like_NCHW`.
        like_NCHW: (N, any, H, W).

    Returns:
        (N, C, H, W).
    """
    height_px, width_px = like_NCHW.shape[-2:]
    return features_NCHW[..., :height_px, :width_px]
