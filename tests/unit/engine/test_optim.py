"""Learning rates by hand, and what is decayed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from segpipe.config import Schedule, Train
from segpipe.engine.optim import make_optimizer, make_schedule


def _rates(num_steps: int, **settings: object) -> list[float]:
    """The rate before the first step and after each, of a highest rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, Schedule.model_validate(settings), num_steps)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(num_steps):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_cosine_by_hand() -> None:
    rates = _rates(10, name="cosine", warmup_share=0.2)
    assert rates[:3] == pytest.approx([0.01, 0.505, 1.0])  # two steps of warm-up
    assert rates[2:] == pytest.approx([(1 + math.cos(math.pi * i / 8)) / 2 for i in range(9)])
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0, abs=1e-12)


def test_poly_by_hand() -> None:
    rates = _rates(10, name="poly", warmup_share=0.2, power=0.9)
    assert rates[:3] == pytest.approx([0.01, 0.505, 1.0])
    assert rates[2:] == pytest.approx([(1 - i / 8) ** 0.9 for i in range(9)], abs=1e-9)


def test_one_cycle_by_hand() -> None:
    rates = _rates(20, name="one_cycle", warmup_share=0.3)
    # From 1/25 over steps 0 .. 5 up, over steps 5 .. 19 down to 1/25 of 1/10000.
    low, last = 1 / 25, 1 / 25 / 1e4
    rising = [low + (1 - low) * (1 - math.cos(math.pi * i / 5)) / 2 for i in range(6)]
    falling = [last + (1 - last) * (1 + math.cos(math.pi * i / 14)) / 2 for i in range(15)]
    assert rates[:20] == pytest.approx(rising + falling[1:], rel=1e-6)


@pytest.mark.parametrize("name", ["cosine", "poly"])
def test_without_warm_up_the_first_step_takes_the_highest_rate(name: str) -> None:
    assert _rates(5, name=name, warmup_share=0)[0] == 1.0


@pytest.mark.parametrize("name", ["cosine", "poly", "one_cycle"])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.2, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 5, 10])
def test_short_trainings_have_a_schedule_too(name: str, warmup_share: float, num_steps: int) -> None:
    rates = _rates(num_steps, name=name, warmup_share=warmup_share)
    assert all(0 <= rate <= 1 + 1e-9 for rate in rates)
    assert num_steps == 1 or max(rates[:num_steps]) > 0.009, "no step learns anything"


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_are_not_decayed(make_train_settings: Callable[..., Train], name: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    settings = make_train_settings(optimizer=name, weight_decay=0.5, learning_rate=0.1)
    optimizer = make_optimizer(module, settings)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = module.state_dict()
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * (1 - 0.1 * 0.5))
    for key in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[key], before[key]), key


def test_optimizers_by_name(make_train_settings: Callable[..., Train]) -> None:
    module = nn.Linear(2, 2)
    sgd = make_optimizer(module, make_train_settings(optimizer="sgd", momentum=0.7))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.7
    assert isinstance(make_optimizer(module, make_train_settings()), torch.optim.AdamW)
    assert sum(len(group["params"]) for group in sgd.param_groups) == 2
