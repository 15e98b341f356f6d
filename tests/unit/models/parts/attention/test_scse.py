"""Concurrent squeeze and excitation against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from unit.models.parts.attention.reference import (
    assert_equals_reference,
    make_features,
    multiply,
    randomise,
    relu,
    sigmoid,
)

from segpipe.models.parts.attention.scse import build_block


@pytest.mark.parametrize("channels", [1, 6, 16])
def test_equals_a_slow_loop(channels: int) -> None:
    block = randomise(build_block(channels=channels))
    _, first, _, second, _ = block.cSE

    def reference(features_CHW: np.ndarray) -> np.ndarray:
        gate_C = sigmoid(multiply(second, relu(multiply(first, features_CHW.mean(axis=(1, 2))))))
        result = np.empty_like(features_CHW)
        for y, x in np.ndindex(*features_CHW.shape[1:]):
            pixel_C = features_CHW[:, y, x]
            result[:, y, x] = pixel_C * gate_C + pixel_C * sigmoid(multiply(block.sSE[0], pixel_C))
        return result

    assert_equals_reference(block, reference, make_features(2, channels, 3, 5))


def test_the_reduction_is_the_papers_but_for_few_channels() -> None:
    assert build_block(channels=64).cSE[1].out_channels == 32
    assert build_block(channels=8).cSE[1].out_channels == 8
