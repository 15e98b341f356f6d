"""Tversky loss by hand, against a slow loop and next to Dice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses import dice
from segpipe.losses.tversky import build_loss

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def _batch(highest_class: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    logits, target = rng.normal(size=(2, 4, 3, 5)), rng.integers(0, highest_class + 1, (2, 3, 5))
    target[1, :, 2] = IGNORE_INDEX
    return torch.from_numpy(logits), torch.from_numpy(target)


def _slow(logits: torch.Tensor, target: torch.Tensor, alpha: float, beta: float, smooth: float, power: float) -> float:
    total = weight_sum = 0.0
    for c in range(4):
        hit = false_alarm = miss = 0.0
        for n, y, x in np.ndindex(*target.shape):
            if target[n, y, x] != IGNORE_INDEX:
                exponentials = np.exp(logits[n, :, y, x].numpy())
                probability = exponentials[c] / exponentials.sum()
                is_class = int(target[n, y, x] == c)
                hit += probability * is_class
                false_alarm += probability * (1 - is_class)
                miss += (1 - probability) * is_class
        if hit:
            index = (hit + smooth) / (hit + alpha * false_alarm + beta * miss + smooth)
            total += WEIGHTS[c] * (1 - index) ** power
            weight_sum += WEIGHTS[c]
    return total / weight_sum


def test_by_hand() -> None:
    # One pixel of class 0, probability 1/2: TP = FN = 1/2, FP = 0; 1 - (1/2 + 1) / (1/2 + 0.7/2 + 1) = 7/37.
    value = build_loss(class_weights=torch.ones(2))(
        torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64)
    ).mean()
    assert float(value) == pytest.approx(7 / 37)


@pytest.mark.parametrize("highest_class", [3, 2], ids=["all classes", "one class absent"])
@pytest.mark.parametrize(
    ("alpha", "beta", "smooth", "exponent"), [(0.3, 0.7, 1.0, 1.0), (0.0, 2.0, 0.1, 0.75), (0.5, 0.5, 3.0, 2.0)]
)
def test_equals_a_slow_loop(highest_class: int, alpha: float, beta: float, smooth: float, exponent: float) -> None:
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    loss = build_loss(class_weights=weights, alpha=alpha, beta=beta, smooth=smooth, exponent=exponent)
    expected = _slow(*_batch(highest_class), alpha, beta, smooth, exponent)
    assert float(loss(*_batch(highest_class)).mean()) == pytest.approx(expected, rel=1e-12)


def test_even_weights_give_dice() -> None:
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    value = build_loss(class_weights=weights, alpha=0.5, beta=0.5, smooth=1.5)(*_batch()).mean()
    torch.testing.assert_close(
        value, dice.build_loss(class_weights=weights, smooth=3.0)(*_batch()).mean(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_a_batch_that_is_certain_and_right_has_a_gradient_of_zero(exponent: float) -> None:
    target = torch.tensor([[[0, 1, 1]]])
    logits = torch.nn.functional.one_hot(target, 2).permute(0, 3, 1, 2).float().mul(500).requires_grad_()
    build_loss(class_weights=torch.ones(2), exponent=exponent)(logits, target).mean().backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()
