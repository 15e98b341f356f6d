"""CBAM against a slow loop."""

from __future__ import annotations

import numpy as np
from unit.models.parts.attention.reference import (
    assert_equals_reference,
    make_features,
    multiply,
    normalise,
    randomise,
    relu,
    sigmoid,
)

from segpipe.models.parts.attention.cbam import build_block


def test_equals_a_slow_loop() -> None:
    block = randomise(build_block(channels=6))
    kernel = block.spatial.conv.conv.weight.detach().numpy()[0]

    def see(vector_C: np.ndarray) -> np.ndarray:
        return multiply(block.channel.fc2, relu(multiply(block.channel.fc1, vector_C)))

    def reference(features_CHW: np.ndarray) -> np.ndarray:
        gate_C = sigmoid(see(features_CHW.mean(axis=(1, 2))) + see(features_CHW.max(axis=(1, 2))))
        weighed_CHW = np.stack([channel * gate for channel, gate in zip(features_CHW, gate_C, strict=True)])
        padded = np.pad(np.stack([weighed_CHW.mean(axis=0), weighed_CHW.max(axis=0)]), ((0, 0), (3, 3), (3, 3)))
        energy_1HW = np.zeros((1, *features_CHW.shape[1:]))
        for y, x in np.ndindex(*features_CHW.shape[1:]):
            energy_1HW[0, y, x] = (padded[:, y : y + 7, x : x + 7] * kernel).sum()
        return weighed_CHW * sigmoid(normalise(block.spatial.conv.bn, energy_1HW))

    assert_equals_reference(block, reference, make_features(2, 6, 3, 5))


def test_the_reduction_is_the_papers_but_for_few_channels() -> None:
    assert build_block(channels=512).channel.fc1.out_channels == 32
    assert build_block(channels=16).channel.fc1.out_channels == 8
