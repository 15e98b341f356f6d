"""Squeeze and excitation by hand and against a slow loop."""

from __future__ import annotations

import numpy as np
import torch
from unit.models.parts.attention.reference import (
    assert_equals_reference,
    make_features,
    multiply,
    randomise,
    relu,
    sigmoid,
)

from segpipe.models.parts.attention.se import build_block


def test_by_hand() -> None:
    block = build_block(channels=2)
    torch.nn.init.zeros_(block.fc1.weight)
    torch.nn.init.zeros_(block.fc1.bias)
    torch.nn.init.zeros_(block.fc2.weight)
    # Nothing is excited: the gates are sigmoid(0) = 1/2 and sigmoid(ln 3) = 3/4.
    block.fc2.bias.data = torch.tensor([0.0, np.log(3)], dtype=torch.float32)
    output = block(torch.tensor([8.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5))
    torch.testing.assert_close(output, torch.tensor([4.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5))


def test_equals_a_slow_loop() -> None:
    block = randomise(build_block(channels=6))

    def reference(features_CHW: np.ndarray) -> np.ndarray:
        mean_C = np.array([sum(channel.ravel()) / channel.size for channel in features_CHW])
        gate_C = sigmoid(multiply(block.fc2, relu(multiply(block.fc1, mean_C))))
        return np.stack([channel * gate for channel, gate in zip(features_CHW, gate_C, strict=True)])

    assert_equals_reference(block, reference, make_features(2, 6, 3, 5))


def test_the_reduction_is_the_papers_but_for_few_channels() -> None:
    assert build_block(channels=512).fc1.out_channels == 32
    assert build_block(channels=16).fc1.out_channels == 8
