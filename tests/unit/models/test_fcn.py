"""The three FCNs: how scores of several strides come together, and how large the networks are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segpipe.choices import MODELS
from segpipe.models.parts.fcn import FCN

NUM_SKIPS = {"fcn32s_vgg16": 0, "fcn16s_vgg16": 1, "fcn8s_vgg16": 2}


class _ColumnsEncoder(nn.Module):
    """Gives at every stride, in its first channel, the column in the image of each cell's centre."""

    widths = (8, 16, 32, 64, 64, 4)

    def forward(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for channels, stride in zip(self.widths, (2, 4, 8, 16, 32, 32), strict=True):
            height, width = (-(-size // stride) for size in images_NCHW.shape[-2:])
            columns_px = torch.arange(float(width)) * stride + (stride - 1) / 2
            features_NCHW = torch.zeros(1, channels, height, width)
            features_NCHW[:, 0] = columns_px
            maps.append(features_NCHW)
        return maps


def _build(name: str, num_classes: int = 1, **options: Any) -> FCN:
    options = {"width": 8, "fc_width": 4, **options}
    module: FCN = MODELS.call(name, options, num_classes=num_classes, in_channels=3, pretrained=False)
    return module.eval()


def _read_columns(module: FCN) -> FCN:
    """Makes each score the column that the encoder tells."""
    module.encoder = _ColumnsEncoder()  # type: ignore[assignment]
    for score in (module.score, *module.skip_scores):
        assert isinstance(score, nn.Conv2d)
        nn.init.zeros_(score.weight)
        nn.init.ones_(score.weight[:, 0])
        assert score.bias is not None
        nn.init.zeros_(score.bias)
    return module


@pytest.mark.parametrize("learn_last_upsampling", [True, False])
@pytest.mark.parametrize("name", NUM_SKIPS)
@torch.no_grad()
def test_scores_of_all_strides_lie_where_their_pixels_lie(name: str, learn_last_upsampling: bool) -> None:
    module = _read_columns(_build(name, learn_last_upsampling=learn_last_upsampling))
    logits = module(torch.zeros(1, 3, 161, 203))
    assert logits.shape == (1, 1, 161, 203)
    inside = slice(64, 128)
    columns_px = torch.arange(64.0, 128.0)
    torch.testing.assert_close(logits[0, 0, inside, inside], (1 + NUM_SKIPS[name]) * columns_px.expand(64, -1))


@torch.no_grad()
def test_scales_multiply_the_features_of_their_skip() -> None:
    module = _read_columns(_build("fcn8s_vgg16", pool4_scale=0.25, pool3_scale=0.5))
    logits = module(torch.zeros(1, 3, 161, 203))
    expected = 1.75 * torch.arange(64.0, 128.0)
    torch.testing.assert_close(logits[0, 0, 100, 64:128], expected)


@pytest.mark.parametrize("name", ["fcn16s_vgg16", "fcn8s_vgg16"])
@torch.no_grad()
def test_skips_begin_without_a_say(name: str) -> None:
    torch.manual_seed(0)
    module = _build(name)
    images = torch.randn(1, 3, 64, 64)
    before = module(images)
    module.skip_scales = tuple(100.0 for _ in module.skip_scales)
    assert torch.equal(module(images), before)
    assert before.any()


def test_upsamplings_begin_as_bilinear_of_each_class() -> None:
    weight = _build("fcn8s_vgg16", num_classes=2).upsamplings[0].weight
    assert weight[0, 0, 0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]
    assert not weight[0, 1].any()


LEARNED = {"learn_last_upsampling": True}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # VGG16 134,260,544 without its last layer; scores 4096 C + C, pool4 512 C + C, pool3 256 C + C;
        # up-samplings 64 * 64, 4 * 4 and 32 * 32, twice 4 * 4 and 16 * 16 times the square of C = 21 classes.
        ("fcn32s_vgg16", LEARNED, 134_260_544 + 86_037 + 4096 * 441),
        ("fcn16s_vgg16", LEARNED, 134_260_544 + 86_037 + 10_773 + (16 + 1024) * 441),
        ("fcn8s_vgg16", LEARNED, 134_260_544 + 86_037 + 10_773 + 5_397 + (32 + 256) * 441),
        ("fcn32s_vgg16", {}, 134_260_544 + 86_037),
        # 13 batch norms of 4224 channels together.
        ("fcn32s_vgg16", {"batch_norm": True}, 134_260_544 + 86_037 + 2 * 4224),
    ],
    ids=["32s", "16s", "8s", "32s fixed", "32s with batch norms"],
)
def test_number_of_parameters_by_hand(name: str, options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        module = MODELS.call(name, options, num_classes=21, in_channels=3, pretrained=False)
    assert sum(parameter.numel() for parameter in module.parameters()) == expected
