"""The skeleton of the U-Nets: alignment of its levels, its margins and its first weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segpipe.models.parts.unet import Padding, UNet, UpSampling, he_conv, mirror_around, up_sampling_layer


def test_weights_begin_with_the_papers_deviation() -> None:
    torch.manual_seed(0)
    # 64 channels and 3x3 pixels go into each output: the paper's own example, N = 576.
    assert he_conv(64, 256, 3).weight.std().item() == pytest.approx((2 / 576) ** 0.5, rel=0.02)
    transposed = up_sampling_layer("transposed", 256, 128)
    assert isinstance(transposed, nn.ConvTranspose2d)
    assert transposed.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)


@torch.no_grad()
def test_without_batch_norm_features_keep_their_scale() -> None:
    torch.manual_seed(0)
    module = UNet(num_classes=4, in_channels=3, width=16, depth=3, batch_norm=False)
    maps = module.contract(torch.randn(1, 3, 64, 64))
    assert all(0.2 < features.square().mean().sqrt() < 5 for features in (*maps, *module.expand(maps)))


@pytest.mark.parametrize("kind", ["bilinear", "nearest"])
@torch.no_grad()
def test_resizing_does_not_shift_the_map(kind: UpSampling) -> None:
    layer = up_sampling_layer(kind, 1, 1)
    layer[1].weight.copy_(layer[1].weight + layer[1].weight.flip(2, 3))
    features = torch.randn(1, 1, 5, 6)
    assert layer(features).shape == (1, 1, 10, 12)
    torch.testing.assert_close(layer(features.flip(2, 3)), layer(features).flip(2, 3))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 45), (100, 33)])
def test_mirror_image_is_that_of_numpy(size: tuple[int, int], depth: int) -> None:
    images = torch.randn(2, 3, *size)
    continued = mirror_around(images, depth)
    margin = 6 * 2**depth - 4
    after = [big - small - margin for big, small in zip(continued.shape[2:], size, strict=True)]
    assert all(margin <= pixels < margin + 2**depth for pixels in after)
    pads = [(0, 0), (0, 0), *((margin, pixels) for pixels in after)]
    np.testing.assert_array_equal(continued.numpy(), np.pad(images.numpy(), pads, mode="reflect"))


def test_the_papers_tile() -> None:
    # Figure 1 and 2: 572x572 pixels go in, 388x388 come out.
    assert mirror_around(torch.zeros(1, 1, 388, 388), 4).shape == (1, 1, 572, 572)


@torch.no_grad()
def test_unpadded_logits_do_not_see_where_the_image_ends() -> None:
    torch.manual_seed(0)
    module = UNet(num_classes=2, in_channels=1, width=2, depth=2, padding="valid").eval()
    images = torch.randn(1, 1, 60, 64)
    whole = module.expand(module.contract(images))[0]
    part = module.expand(module.contract(images[..., 4:56, 8:60]))[0]
    assert whole.shape[2:] == (20, 24) and part.shape[2:] == (12, 12)
    torch.testing.assert_close(part, whole[..., 4:16, 8:20])


def _transparent(depth: int, padding: Padding, merge_takes: str) -> UNet:
    """Gives a U-Net of one channel that computes nothing but maxima: each merge takes one of its two inputs."""
    module = UNet(
        num_classes=1,
        in_channels=1,
        width=1,
        depth=depth,
        padding=padding,
        batch_norm=False,
        deep_supervision=True,
    )
    for key, parameter in module.named_parameters():
        nn.init.zeros_(parameter)
        if key.endswith("weight") and parameter.dim() == 4:
            is_merge = key.startswith("merge.") and key.endswith(".0.weight")
            # Of the channels that a merge gets the first half is the skip's.
            taken = parameter.shape[1] // 2 if is_merge and merge_takes == "upsampled" else 0
            middle = parameter.shape[-1] // 2 if not key.startswith("up.") else slice(None)
            with torch.no_grad():
                parameter[0, taken, middle, middle] = 1
    return module


@pytest.mark.parametrize("padding", ["same", "valid"])
@torch.no_grad()
def test_skips_lie_upon_the_image(padding: Padding) -> None:
    images = torch.rand(1, 1, 35, 46)
    logits = _transparent(2, padding, "skip").eval()(images)
    torch.testing.assert_close(logits, images)


@pytest.mark.parametrize("padding", ["same", "valid"])
@torch.no_grad()
def test_up_sampled_maps_lie_upon_the_image(padding: Padding) -> None:
    images = torch.rand(1, 1, 34, 46)
    logits = _transparent(1, padding, "upsampled").eval()(images)
    torch.testing.assert_close(logits, F.max_pool2d(images, 2).repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("padding", ["same", "valid"])
@torch.no_grad()
def test_auxiliary_logits_lie_upon_the_main_ones(padding: Padding) -> None:
    ramp = torch.arange(51.0).expand(1, 1, 37, 51)
    logits, level_1, level_2 = _transparent(3, padding, "skip").train()(ramp)
    torch.testing.assert_close(logits, ramp)
    # A cell holds its rightmost pixel, half a cell less half a pixel from its middle. Not at the rim: the mirror's.
    inner = slice(8, -8)
    torch.testing.assert_close(level_1[..., inner, inner], ramp[..., inner, inner] + 0.5)
    torch.testing.assert_close(level_2[..., inner, inner], ramp[..., inner, inner] + 1.5)
