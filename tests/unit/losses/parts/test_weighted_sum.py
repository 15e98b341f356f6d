"""Weighted sums and means by hand."""

from __future__ import annotations

import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss, WeightedSum, find_present, weigh_classes, weigh_pixels, widen

LOGITS, TARGET = torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64)


def _loss(costs: torch.Tensor, weights: list[float]) -> WeightedSum:
    return Loss(lambda _: torch.tensor(weights), lambda *_: costs)(LOGITS, TARGET)


def test_sum_weight_and_mean_by_hand() -> None:
    added = _loss(torch.tensor([1.0, 5.0, 9.0]), [3.0, 1.0, 0.0])
    assert (float(added.sum), float(added.weight), float(added.mean())) == (8, 4, 2)


def test_two_parts_make_a_whole() -> None:
    added = _loss(torch.tensor([1.0]), [3.0]) + _loss(torch.tensor([5.0, 9.0]), [1.0, 0.0])
    assert (float(added.sum), float(added.weight), float(added.mean())) == (8, 4, 2)


def test_without_a_weight_it_is_zero_with_zero_gradients() -> None:
    costs = torch.tensor([1.0, 1e30], requires_grad=True)
    value = _loss(costs, [0.0, 0.0]).mean()
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == 0
    assert costs.grad is not None
    assert costs.grad.tolist() == [0, 0]


def test_only_classes_that_occur_weigh() -> None:
    target = torch.tensor([[[1, IGNORE_INDEX], [1, 1]]])
    assert find_present(target, 3).tolist() == [False, True, False]
    assert weigh_classes(torch.tensor([0.5, 4.0, 1.0]), target).tolist() == [0, 4, 0]
    assert not find_present(torch.full((1, 2, 2), IGNORE_INDEX), 3).any()


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
