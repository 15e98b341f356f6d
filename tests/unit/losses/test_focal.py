"""Focal loss by hand, against a slow loop and next to cross-entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses import cross_entropy
from segpipe.losses.focal import build_loss

WEIGHTS = [0.5, 1.0, 4.0]


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    logits, target = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    target[1, :, 2] = IGNORE_INDEX
    return torch.from_numpy(logits), torch.from_numpy(target)


def _slow(logits: torch.Tensor, target: torch.Tensor, gamma: float) -> float:
    total = weight_sum = 0.0
    for n, y, x in np.ndindex(*target.shape):
        truth = int(target[n, y, x])
        if truth != IGNORE_INDEX:
            exponentials = [math.exp(score) for score in logits[n, :, y, x].tolist()]
            probability = exponentials[truth] / sum(exponentials)
            total += WEIGHTS[truth] * (1 - probability) ** gamma * -math.log(probability)
            weight_sum += WEIGHTS[truth]
    return total / weight_sum


def test_by_hand() -> None:
    # The truth has probability 3/4: (1/4)^2 log(4/3).
    logits = torch.tensor([math.log(3.0), 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    value = build_loss(class_weights=torch.ones(2))(logits, torch.zeros(1, 1, 1, dtype=torch.int64)).mean()
    assert float(value) == pytest.approx(math.log(4 / 3) / 16, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_equals_a_slow_loop(gamma: float) -> None:
    value = build_loss(class_weights=torch.tensor(WEIGHTS), gamma=gamma)(*_batch()).mean()
    assert float(value) == pytest.approx(_slow(*_batch(), gamma), rel=1e-12)


def test_without_gamma_it_is_cross_entropy() -> None:
    weights = torch.tensor(WEIGHTS)
    value = build_loss(class_weights=weights, gamma=0.0)(*_batch()).mean()
    torch.testing.assert_close(
        value, cross_entropy.build_loss(class_weights=weights)(*_batch()).mean(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_pixel_that_is_certain_and_right_has_a_gradient_of_zero(gamma: float) -> None:
    logits = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    build_loss(class_weights=torch.ones(2), gamma=gamma)(
        logits, torch.zeros(1, 1, 1, dtype=torch.int64)
    ).mean().backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [0, 0]
