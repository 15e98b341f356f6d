"""Cross-entropy next to torch's own and a slow loop."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.cross_entropy import build_loss

WEIGHTS = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator)
    target[0, 1:3, 2] = IGNORE_INDEX
    return logits, target


def _slow(logits: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0) -> float:
    total = weight_sum = 0.0
    for n, y, x in ((n, y, x) for n in range(2) for y in range(4) for x in range(5)):
        truth = int(target[n, y, x])
        if truth == IGNORE_INDEX:
            continue
        scores = [float(logits[n, c, y, x]) for c in range(3)]
        log_sum = math.log(sum(math.exp(score) for score in scores))
        share = [smoothing / 3 + (1 - smoothing) * (c == truth) for c in range(3)]
        cost = sum(share[c] * (log_sum - scores[c]) for c in range(3))
        total += float(WEIGHTS[truth]) * cost
        weight_sum += float(WEIGHTS[truth])
    return total / weight_sum


def test_by_hand() -> None:
    # Pixels of truth 0 and 1, weights 1 and 3; probability of the truth 3/4 and 1/2.
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64).view(1, 2, 1, 2)
    loss = build_loss(class_weights=torch.tensor([1.0, 3.0], dtype=torch.float64))
    expected = (math.log(4 / 3) + 3 * math.log(2)) / 4
    assert float(loss(logits, torch.tensor([[[0, 1]]])).mean()) == pytest.approx(expected, rel=1e-12)


def test_equals_torch_and_so_does_its_gradient(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = batch
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = build_loss(class_weights=WEIGHTS)(ours, target).mean()
    expected = F.cross_entropy(theirs, target, weight=WEIGHTS, reduction="mean", ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_equals_a_slow_loop(batch: tuple[torch.Tensor, torch.Tensor], smoothing: float) -> None:
    value = build_loss(class_weights=WEIGHTS, label_smoothing=smoothing)(*batch).mean()
    assert float(value) == pytest.approx(_slow(*batch, smoothing), rel=1e-12)


def test_label_smoothing_equals_torch_where_classes_count_alike(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    value = build_loss(class_weights=torch.ones(3), label_smoothing=0.2)(*batch).mean()
    expected = F.cross_entropy(*batch, ignore_index=IGNORE_INDEX, label_smoothing=0.2)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
