"""The non-local block against a slow loop."""

from __future__ import annotations

import numpy as np
import torch
from unit.models.parts.attention.reference import (
    assert_equals_reference,
    make_features,
    multiply,
    multiply_pixels,
    normalise,
    randomise,
    softmax,
)

from segpipe.models.parts.attention.non_local import build_block


def test_equals_a_slow_loop() -> None:
    block = randomise(build_block(channels=6))

    def reference(features_CHW: np.ndarray) -> np.ndarray:
        pixels = [features_CHW[:, y, x] for y, x in np.ndindex(*features_CHW.shape[1:])]
        context_CHW = np.empty((3, *features_CHW.shape[1:]))
        for y, x in np.ndindex(*features_CHW.shape[1:]):
            query = multiply(block.theta, features_CHW[:, y, x])
            weights = softmax([float(query @ multiply(block.phi, pixel)) / np.sqrt(3) for pixel in pixels])
            values = [multiply(block.g, pixel) for pixel in pixels]
            context_CHW[:, y, x] = sum(weight * value for weight, value in zip(weights, values, strict=True))
        return features_CHW + normalise(block.norm, multiply_pixels(block.out, context_CHW))

    assert_equals_reference(block, reference, make_features(2, 6, 3, 4))


def test_half_the_channels_as_in_the_paper() -> None:
    assert build_block(channels=64).theta.out_channels == 32


def test_begins_near_the_identity() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 16, 5, 7)
    change = build_block(channels=16).train()(features) - features
    assert 0 < change.std() < 0.11
