"""Up-sampling by a whole factor: by hand, against interpolation, and aligned with the image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segpipe.models.parts.upsampling import bilinear_transposed_conv, crop_to, upsample_bilinear


@pytest.mark.parametrize(
    ("stride", "expected"), [(1, [1.0]), (2, [0.25, 0.75, 0.75, 0.25]), (3, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])]
)
def test_kernel_by_hand(stride: int, expected: list[float]) -> None:
    weight = bilinear_transposed_conv(2, stride).weight.detach()
    kernel = torch.outer(torch.tensor(expected), torch.tensor(expected))
    torch.testing.assert_close(weight[0, 0], kernel)
    torch.testing.assert_close(weight[1, 1], kernel)
    assert not weight[0, 1].any()
    assert not weight[1, 0].any()


@pytest.mark.parametrize("stride", [1, 2, 3, 8, 32])
def test_begins_as_bilinear_interpolation_inside_the_rim(stride: int) -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    enlarged = bilinear_transposed_conv(3, stride)(features)
    assert enlarged.shape == (2, 3, 4 * stride, 5 * stride)
    inside = (..., slice(stride, -stride), slice(stride, -stride))
    expected = F.interpolate(features, scale_factor=stride, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged[inside], expected[inside])
    torch.testing.assert_close(upsample_bilinear(features, stride), expected)


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_a_ramp_over_the_image_stays_one(stride: int) -> None:
    centres_px = torch.arange(6.0) * stride + (stride - 1) / 2
    features = centres_px.expand(1, 1, 6, 6)
    inside = slice(stride, -stride)
    columns_px = torch.arange(6.0 * stride)[inside]
    for enlarged in (bilinear_transposed_conv(1, stride)(features), upsample_bilinear(features, stride)):
        torch.testing.assert_close(enlarged[0, 0, inside, inside], columns_px.expand(4 * stride, -1))


def test_is_built_without_memory() -> None:
    with torch.device("meta"):
        assert bilinear_transposed_conv(21, 32).weight.is_meta


def test_cuts_at_the_right_and_below_without_a_copy() -> None:
    features = torch.arange(12.0).view(1, 1, 3, 4)
    cropped = crop_to(features, torch.zeros(1, 7, 2, 3))
    assert cropped.tolist() == [[[[0, 1, 2], [4, 5, 6]]]]
    assert cropped.data_ptr() == features.data_ptr()
