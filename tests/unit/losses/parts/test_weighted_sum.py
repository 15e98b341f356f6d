"""Weighted means by hand."""

from __future__ import annotations

import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import take_weighted_mean, weigh_pixels, widen


def test_a_mean_by_hand() -> None:
    assert float(take_weighted_mean(torch.tensor([1.0, 5.0, 9.0]), torch.tensor([3.0, 1.0, 0.0]))) == 2


def test_without_a_weight_it_is_zero_with_zero_gradients() -> None:
    costs = torch.tensor([1.0, 1e30], requires_grad=True)
    value = take_weighted_mean(costs, torch.zeros(2))
    value.backward()
    assert float(value.detach()) == 0
    assert costs.grad is not None
    assert costs.grad.tolist() == [0, 0]


def test_each_pixel_weighs_what_its_class_weighs_and_void_nothing() -> None:
    weights = weigh_pixels(torch.tensor([0.5, 4.0]), torch.tensor([[[1, IGNORE_INDEX], [0, 1]]]))
    assert weights.tolist() == [[[4, 0], [0.5, 4]]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_what_has_16_bits_is_widened(given: torch.dtype, expected: torch.dtype) -> None:
    assert widen(torch.zeros(1, dtype=given)).dtype == expected
