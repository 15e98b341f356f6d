"""Hard pixels by hand, against a slow loop and next to cross-entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses import cross_entropy
from segpipe.losses.ohem_cross_entropy import build_loss

WEIGHTS = [0.5, 1.0, 4.0]


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    logits, target = 2 * rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    target[1, :, 2] = IGNORE_INDEX
    return torch.from_numpy(logits), torch.from_numpy(target)


def _slow(logits: torch.Tensor, target: torch.Tensor, threshold: float, share: float) -> tuple[float, int]:
    pixels = []
    for n, y, x in np.ndindex(*target.shape):
        truth = int(target[n, y, x])
        if truth != IGNORE_INDEX:
            exponentials = [math.exp(score) for score in logits[n, :, y, x].tolist()]
            pixels.append((exponentials[truth] / sum(exponentials), WEIGHTS[truth]))
    pixels.sort()
    num_hard = sum(probability < threshold for probability, _ in pixels)
    kept = pixels[: max(num_hard, math.ceil(share * len(pixels)))]
    return sum(w * -math.log(p) for p, w in kept) / sum(w for _, w in kept), len(kept)


def _row(*probabilities: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels of class 0 with these probabilities, of two classes."""
    odds = torch.tensor([math.log(p / (1 - p)) for p in probabilities], dtype=torch.float64)
    logits = torch.stack([odds, torch.zeros_like(odds)]).view(1, 2, 1, -1)
    return logits, torch.zeros(1, 1, len(odds), dtype=torch.int64)


def test_by_hand() -> None:
    loss = build_loss(class_weights=torch.ones(2))
    assert float(loss(*_row(0.5, 0.6, 0.8, 0.9)).mean()) == pytest.approx(-math.log(0.5 * 0.6) / 2, rel=1e-12)


def test_where_all_is_easy_the_hardest_count() -> None:
    loss = build_loss(class_weights=torch.ones(2), min_kept_share=0.5)
    assert float(loss(*_row(0.95, 0.8, 0.9, 0.85)).mean()) == pytest.approx(-math.log(0.8 * 0.85) / 2, rel=1e-12)


def test_what_is_as_hard_as_the_last_counts_too() -> None:
    logits, target = _row(0.8, 0.8, 0.9, 0.9)
    logits.requires_grad_()
    build_loss(class_weights=torch.ones(2), min_kept_share=0.25)(logits, target).mean().backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0, 0] != 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize(("threshold", "share"), [(0.7, 0.0625), (0.3, 0.1), (0.01, 0.5), (0.01, 0.01), (0.9, 1.0)])
def test_equals_a_slow_loop(threshold: float, share: float) -> None:
    logits, target = _batch()
    logits.requires_grad_()
    loss = build_loss(class_weights=torch.tensor(WEIGHTS), threshold=threshold, min_kept_share=share)
    value = loss(logits, target).mean()
    value.backward()
    expected, num_kept = _slow(logits.detach(), target, threshold, share)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-12)
    assert logits.grad is not None
    assert int((logits.grad != 0).any(dim=1).sum()) == num_kept


def test_with_all_pixels_it_is_cross_entropy() -> None:
    weights = torch.tensor(WEIGHTS)
    value = build_loss(class_weights=weights, threshold=1.0, min_kept_share=1.0)(*_batch()).mean()
    torch.testing.assert_close(
        value, cross_entropy.build_loss(class_weights=weights)(*_batch()).mean(), rtol=1e-12, atol=0
    )


def test_a_broken_model_shows() -> None:
    logits, target = _row(0.5, 0.6, 0.8, 0.9)
    logits[0, :, 0, 2] = math.nan
    assert build_loss(class_weights=torch.ones(2))(logits, target).mean().isnan()
