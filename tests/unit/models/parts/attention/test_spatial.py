"""Spatial squeeze and excitation by hand and against a slow loop."""

from __future__ import annotations

import numpy as np
import torch
from unit.models.parts.attention.reference import assert_equals_reference, make_features, multiply, randomise, sigmoid

from segpipe.models.parts.attention.spatial import build_block


def test_by_hand() -> None:
    block = build_block(channels=2)
    block.squeeze.weight.data = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    block.squeeze.bias.data = torch.tensor([0.0])
    # q = 2 - 2 = 0 at the first pixel, so 1/2; q = ln 3 - 0 at the second, so 3/4.
    features = torch.tensor([[2.0, np.log(3)], [2.0, 0.0]], dtype=torch.float32).view(1, 2, 1, 2)
    expected = torch.tensor([[1.0, 0.75 * np.log(3)], [1.0, 0.0]], dtype=torch.float32).view(1, 2, 1, 2)
    torch.testing.assert_close(block(features), expected)


def test_equals_a_slow_loop() -> None:
    block = randomise(build_block(channels=6))

    def reference(features_CHW: np.ndarray) -> np.ndarray:
        result = features_CHW.copy()
        for y, x in np.ndindex(*features_CHW.shape[1:]):
            result[:, y, x] *= sigmoid(multiply(block.squeeze, features_CHW[:, y, x]))
        return result

    assert_equals_reference(block, reference, make_features(2, 6, 3, 5))
