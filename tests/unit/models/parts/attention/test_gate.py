"""The attention gate by hand and against a slow loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from unit.models.parts.attention.reference import (
    assert_equals_reference,
    make_features,
    multiply_pixels,
    randomise,
    relu,
    sigmoid,
)

from segpipe.models.parts.attention.gate import build_block


def _resample(features_CHW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, with pixels as areas: the centre of pixel y lies at y + 1/2, and the border is repeated."""
    result = np.empty((len(features_CHW), height, width))
    old_height, old_width = features_CHW.shape[1:]
    for y, x in np.ndindex(height, width):
        old_y = max((y + 0.5) * old_height / height - 0.5, 0)
        old_x = max((x + 0.5) * old_width / width - 0.5, 0)
        top, left = int(old_y), int(old_x)
        bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
        above = features_CHW[:, top, left] * (1 - old_x + left) + features_CHW[:, top, right] * (old_x - left)
        below = features_CHW[:, bottom, left] * (1 - old_x + left) + features_CHW[:, bottom, right] * (old_x - left)
        result[:, y, x] = above * (1 - old_y + top) + below * (old_y - top)
    return result


@pytest.mark.parametrize(
    ("skip_size", "gating_size"),
    [((4, 6), (2, 3)), ((5, 7), (3, 4)), ((5, 7), (2, 2)), ((4, 6), (4, 6)), ((1, 1), (1, 1))],
    ids=["half", "half of an odd size", "a quarter", "the same", "one pixel"],
)
def test_equals_a_slow_loop(skip_size: tuple[int, int], gating_size: tuple[int, int]) -> None:
    gate = randomise(build_block(channels=4, gating_channels=3))
    kernel = gate.from_skip.weight.detach().numpy()

    def reference(skip_CHW: np.ndarray, gating_CHW: np.ndarray) -> np.ndarray:
        height, width = skip_CHW.shape[1:]
        padded = np.pad(skip_CHW, ((0, 0), (0, 1), (0, 1)))
        seen = np.empty((len(kernel), math.ceil(height / 2), math.ceil(width / 2)))
        for o, y, x in np.ndindex(*seen.shape):
            seen[o, y, x] = (padded[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] * kernel[o]).sum()
        said = _resample(multiply_pixels(gate.from_gating, gating_CHW), *seen.shape[1:])
        weight_1HW = sigmoid(multiply_pixels(gate.weigh, relu(seen + said)))
        return skip_CHW * _resample(weight_1HW, height, width)

    assert_equals_reference(gate, reference, make_features(2, 4, *skip_size), make_features(2, 3, *gating_size))


def test_by_hand() -> None:
    gate = build_block(channels=2, gating_channels=1)
    for layer in (gate.from_skip, gate.from_gating, gate.weigh):
        torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(gate.from_gating.bias)
    torch.nn.init.constant_(gate.weigh.bias, math.log(3) - 9)
    # The 2x2 pixels of two channels add up to 8, the gating feature to 1: sigmoid(8 + 1 + ln 3 - 9) = 3/4.
    output = gate(torch.ones(1, 2, 2, 2), torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(output, torch.full((1, 2, 2, 2), 0.75))


def test_gates_begin_open() -> None:
    torch.manual_seed(0)
    skip = torch.ones(1, 16, 8, 8)
    output = build_block(channels=16, gating_channels=32)(skip, torch.randn(1, 32, 4, 4))
    assert output.min() > 0.85
