"""Dual attention by hand and against a slow loop."""

from __future__ import annotations

import numpy as np
import torch
from unit.models.parts.attention.reference import assert_equals_reference, make_features, multiply, randomise, softmax

from segpipe.models.parts.attention.dual import attend_to_channels, build_block


def test_equals_a_slow_loop() -> None:
    block = randomise(build_block(channels=16))
    alpha, beta = block.alpha.item(), block.beta.item()

    def reference(features_CHW: np.ndarray) -> np.ndarray:
        positions = list(np.ndindex(*features_CHW.shape[1:]))
        pixels = [features_CHW[:, y, x] for y, x in positions]
        result = features_CHW.copy()
        for (y, x), pixel in zip(positions, pixels, strict=True):
            query = multiply(block.query, pixel)
            weights = softmax([float(query @ multiply(block.key, other)) for other in pixels])
            values = [multiply(block.value, other) for other in pixels]
            result[:, y, x] += alpha * sum(w * v for w, v in zip(weights, values, strict=True))
        for j, channel in enumerate(features_CHW):
            weights = softmax([float((channel * other).mean()) for other in features_CHW])
            result[j] += beta * sum(w * other for w, other in zip(weights, features_CHW, strict=True))
        return result

    assert_equals_reference(block, reference, make_features(2, 16, 3, 4))


def test_channel_attention_by_hand() -> None:
    # Two pixels. Channel 0 times itself is 2 ln 3 / 2 = ln 3 on average, times channel 1 it is 0: weights 3/4 and 1/4.
    # Channel 1 is 0 everywhere, so it looks at both alike.
    a = float(np.sqrt(np.log(3)))
    features = torch.tensor([[a, a], [0.0, 0.0]]).view(1, 2, 1, 2)
    expected = torch.tensor([[0.75 * a, 0.75 * a], [0.5 * a, 0.5 * a]]).view(1, 2, 1, 2)
    torch.testing.assert_close(attend_to_channels(features), expected)


def test_channel_attention_does_not_depend_on_the_size_of_the_image() -> None:
    features = make_features(1, 6, 3, 5)
    tiled = attend_to_channels(features.repeat(1, 1, 2, 3))
    torch.testing.assert_close(tiled, attend_to_channels(features).repeat(1, 1, 2, 3))


def test_begins_near_the_identity() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 16, 5, 7)
    change = build_block(channels=16)(features) - features
    assert 0 < change.std() < 0.11
