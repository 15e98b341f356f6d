"""What every loss keeps, found by the registry."""

from __future__ import annotations

import pytest
import torch

from segpipe.choices import LOSSES
from segpipe.classes import IGNORE_INDEX

pytestmark = pytest.mark.parametrize("name", LOSSES.names())

WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


def _batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=dtype)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator)
    target[0, 0], target[1, 2] = IGNORE_INDEX, IGNORE_INDEX
    return logits, target


def test_is_a_positive_scalar_of_the_logits_type(name: str) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    for dtype in (torch.float32, torch.float64):
        added = loss(*_batch(dtype))
        for value in (added.sum, added.weight, added.mean()):
            assert value.shape == ()
            assert value.dtype == dtype
            assert value > 0


def test_weights_follow_from_the_target_alone_and_are_those_of_the_costs(name: str) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    logits, target = _batch()
    weights = loss.weigh(target)
    assert weights.shape == loss.cost(logits, target).shape
    assert (weights >= 0).all()
    assert weights.sum() == loss(logits, target).weight == loss(-2 * logits, target).weight
    assert torch.equal(loss.add_up(logits, target, weights), loss(logits, target).sum)


def test_void_is_ignored(name: str) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    logits, target = _batch()
    logits.requires_grad_()
    value = loss(logits, target).mean()
    value.backward()
    is_void = target == IGNORE_INDEX
    gradient = logits.grad
    assert gradient is not None
    gradient_NHWC = gradient.permute(0, 2, 3, 1)
    assert (gradient_NHWC[is_void] == 0).all()
    assert (gradient_NHWC[~is_void] != 0).all()
    changed_NHWC = logits.detach().permute(0, 2, 3, 1).clone()
    changed_NHWC[is_void] = 100.0
    assert loss(changed_NHWC.permute(0, 3, 1, 2), target).mean() == value


@pytest.mark.parametrize("factor", [1.0, 65536.0], ids=["alone", "with a large factor, as in fp16"])
def test_a_batch_of_void_gives_zero_and_zero_gradients(name: str, factor: float) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    logits, target = _batch()
    logits.requires_grad_()
    added = loss(logits, torch.full_like(target, IGNORE_INDEX))
    (factor * added.mean()).backward()
    assert added.sum == added.weight == added.mean() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_logits_give_finite_gradients(name: str, size: float) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    logits, target = _batch()
    logits = (logits.sign() * size).requires_grad_()
    loss(logits, target).mean().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_gradient_is_the_slope(name: str) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS.double())
    logits, target = _batch(torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, target).mean(), logits.requires_grad_())


def test_a_perfect_prediction_costs_next_to_nothing_and_its_reverse_much(name: str) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    _, target = _batch()
    one_hot = torch.nn.functional.one_hot(target.where(target != IGNORE_INDEX, 0), 3).permute(0, 3, 1, 2).float()
    right, wrong = (loss(sign * one_hot, target).mean() for sign in (50, -50))
    assert right < 1e-3
    assert wrong > 0.1  # a bounded loss may end early: log-cosh of Dice at 0.43


def test_class_weights_count(name: str) -> None:
    logits, target = _batch()
    even, uneven = (LOSSES.call(name, class_weights=w)(logits, target).mean() for w in (torch.ones(3), WEIGHTS))
    assert even != uneven


def test_only_the_ratios_of_class_weights_count(name: str) -> None:
    # U-Net's w0 is added to them (equation 2): that one differs with them unless it is zero.
    options = {"w0": 0.0} if name == "border_cross_entropy" else {}
    logits, target = _batch()
    once, tenfold = (
        LOSSES.call(name, options, class_weights=w)(logits, target).mean() for w in (WEIGHTS, 10 * WEIGHTS)
    )
    assert tenfold == pytest.approx(float(once), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_16_bits_are_computed_with_in_float32(name: str, dtype: torch.dtype) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS)
    logits, target = _batch()
    narrow = logits.to(dtype).requires_grad_()
    value = loss(narrow, target).mean()
    value.backward()
    assert torch.equal(value, loss(narrow.detach().float(), target).mean())
    assert narrow.grad is not None
    assert narrow.grad.dtype == dtype
    assert narrow.grad.isfinite().all()


def test_channels_last_is_the_same(name: str) -> None:
    loss = LOSSES.call(name, class_weights=WEIGHTS.double())
    logits, target = _batch(torch.float64)
    values = [loss(given, target).mean() for given in (logits.to(memory_format=torch.channels_last), logits)]
    torch.testing.assert_close(*values)


def test_targets_and_weights_stay_as_they_are(name: str) -> None:
    logits, target = _batch()
    weights, given = WEIGHTS.clone(), target.clone()
    LOSSES.call(name, class_weights=weights)(logits, given)
    assert torch.equal(weights, WEIGHTS)
    assert torch.equal(given, target)
