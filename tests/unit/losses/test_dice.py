"""Dice by hand and against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.dice import build_loss


def _slow(logits: np.ndarray, target: np.ndarray, weights: list[float], smooth: float) -> float:
    num_classes = logits.shape[1]
    total = weight_sum = 0.0
    for c in range(num_classes):
        both = predicted = true = 0.0
        for n, y, x in np.ndindex(*target.shape):
            if target[n, y, x] == IGNORE_INDEX:
                continue
            exponentials = np.exp(logits[n, :, y, x])
            probability = exponentials[c] / exponentials.sum()
            predicted += probability
            true += target[n, y, x] == c
            both += probability * (target[n, y, x] == c)
        if true:
            total += weights[c] * (1 - (2 * both + smooth) / (predicted + true + smooth))
            weight_sum += weights[c]
    return total / weight_sum


def test_by_hand() -> None:
    # Two pixels of truth 0 and 1, probabilities 1/2: 2 * 1/2 + 1 = 2 over 1 + 1 + 1 = 3 for both classes.
    loss = build_loss(class_weights=torch.tensor([1.0, 5.0]))
    assert float(loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])).mean()) == pytest.approx(1 / 3)


@pytest.mark.parametrize("smooth", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("highest_class", [3, 2], ids=["all classes", "one class absent"])
def test_equals_a_slow_loop(smooth: float, highest_class: int) -> None:
    rng = np.random.default_rng(3)
    logits, target = rng.normal(size=(2, 4, 3, 5)), rng.integers(0, highest_class + 1, (2, 3, 5))
    target[1, :, 2] = IGNORE_INDEX
    weights = [0.5, 1.0, 2.0, 4.0]
    loss = build_loss(class_weights=torch.tensor(weights, dtype=torch.float64), smooth=smooth)
    value = float(loss(torch.from_numpy(logits), torch.from_numpy(target)).mean())
    assert value == pytest.approx(_slow(logits, target, weights, smooth), rel=1e-12)
