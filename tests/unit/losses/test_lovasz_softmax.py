"""Lovasz-softmax by hand, against the definition of the Lovasz extension and a slow loop."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.lovasz_softmax import build_loss

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def _batch(highest_class: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    logits, target = rng.normal(size=(3, 4, 3, 5)), rng.integers(0, highest_class + 1, (3, 3, 5))
    target[0] = IGNORE_INDEX
    target[1, :, 2] = IGNORE_INDEX
    return torch.from_numpy(logits), torch.from_numpy(target)


def _jaccard_loss(is_class: list[bool], is_wrong: set[int]) -> float:
    """1 - IoU of a class when these pixels are wrong: equation 6 of the paper."""
    union = {i for i, truth in enumerate(is_class) if truth} | is_wrong
    return len(is_wrong) / len(union)


def _slow(logits: torch.Tensor, target: torch.Tensor) -> float | None:
    """The definition, equation 8: sum over sorted errors of m_i (Delta(first i wrong) - Delta(first i - 1 wrong))."""
    total = weight_sum = 0.0
    labelled = [place for place in np.ndindex(*target.shape) if target[place] != IGNORE_INDEX]
    for c in range(4):
        is_class = [int(target[place]) == c for place in labelled]
        if not any(is_class):
            continue
        errors = []
        for (n, y, x), truth in zip(labelled, is_class, strict=True):
            exponentials = np.exp(logits[n, :, y, x].numpy())
            probability = float(exponentials[c] / exponentials.sum())
            errors.append(1 - probability if truth else probability)
        wrong: set[int] = set()
        cost = 0.0
        for i in sorted(range(len(errors)), key=lambda index: -errors[index]):
            before = _jaccard_loss(is_class, wrong)
            wrong.add(i)
            cost += errors[i] * (_jaccard_loss(is_class, wrong) - before)
        total += WEIGHTS[c] * cost
        weight_sum += WEIGHTS[c]
    return total / weight_sum if weight_sum else None


def test_by_hand() -> None:
    # Truth 0, 1; all probabilities 1/2: every error is 1/2 and all pixels wrong is 1 - IoU = 1: 1/2 for each class.
    value = build_loss(class_weights=torch.tensor([1.0, 5.0]))(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])).mean()
    assert float(value) == pytest.approx(0.5)


def test_for_a_certain_prediction_it_is_one_less_iou() -> None:
    # Truth 0 0 0 1 and prediction 0 0 1 1: IoU is 2/3 and 1/2.
    target, prediction = torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[[0, 0, 1, 1]]])
    logits = 100 * torch.nn.functional.one_hot(prediction, 2).permute(0, 3, 1, 2).double()
    value = build_loss(class_weights=torch.ones(2))(logits, target).mean()
    assert float(value) == pytest.approx((1 / 3 + 1 / 2) / 2, rel=1e-12)


@pytest.mark.parametrize("highest_class", [3, 2], ids=["all classes", "one class absent"])
def test_equals_the_definition(highest_class: int) -> None:
    loss = build_loss(class_weights=torch.tensor(WEIGHTS, dtype=torch.float64))
    assert float(loss(*_batch(highest_class)).mean()) == pytest.approx(_slow(*_batch(highest_class)), rel=1e-12)


def test_per_image_is_the_mean_over_the_images_with_a_label() -> None:
    logits, target = _batch()
    loss = build_loss(class_weights=torch.tensor(WEIGHTS, dtype=torch.float64), per_image=True)
    values = [_slow(logits[n : n + 1], target[n : n + 1]) for n in range(3)]
    assert values[0] is None
    assert values[1] is not None and values[2] is not None
    assert float(loss(logits, target).mean()) == pytest.approx((values[1] + values[2]) / 2, rel=1e-12)
    void = torch.full_like(target, IGNORE_INDEX)
    assert float(loss(logits, void).mean()) == 0


@pytest.mark.parametrize("per_image", [False, True])
def test_with_a_stride_it_is_the_loss_of_every_second_row_and_column(per_image: bool) -> None:
    logits, target = _batch()
    given = logits.requires_grad_()
    build = partial(build_loss, class_weights=torch.tensor(WEIGHTS, dtype=torch.float64), per_image=per_image)
    value = build(stride=2)(given, target).mean()
    value.backward()
    # Rows 0 and 2, columns 0, 2 and 4.
    rows, columns = torch.meshgrid(torch.tensor([0, 2]), torch.tensor([0, 2, 4]), indexing="ij")
    expected = build()(logits[:, :, rows, columns], target[:, rows, columns]).mean()
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert given.grad is not None
    has_gradient = (given.grad != 0).any(dim=(0, 1))
    assert has_gradient.nonzero().tolist() == [[row, column] for row in (0, 2) for column in (0, 2, 4)]


def test_a_class_between_the_rows_and_columns_of_the_stride_is_absent() -> None:
    logits, target = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 1], [1, 1]]])
    loss = build_loss(class_weights=torch.tensor([1.0, 5.0]), stride=2)
    assert float(loss(logits, target).weight) == 1
    assert float(loss(logits, target).mean()) == pytest.approx(0.5)  # one pixel of class 0, probability 1/2


def test_in_float32_each_gradient_is_near_the_one_in_float64() -> None:
    # As differences of neighbours, the steps of 1 - IoU among 40,000 pixels are off by several percent in float32.
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 200, 200, generator=generator)
    target = torch.randint(0, 2, (1, 200, 200), generator=generator)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        given = logits.to(dtype, copy=True).requires_grad_()
        build_loss(class_weights=torch.ones(2))(given, target).mean().backward()
        assert given.grad is not None
        gradients.append(given.grad.double())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=0)


def test_errors_that_are_tiny_keep_their_order() -> None:
    # Errors of exp(-30) and exp(-40) differ, though 1 - p rounds both away; the pixel of the class comes second.
    logits = torch.tensor([[-30.0, 40.0], [0.0, 0.0]]).view(1, 2, 1, 2).requires_grad_(True)
    build_loss(class_weights=torch.tensor([1.0, 1e-30]))(logits, torch.tensor([[[1, 0]]])).mean().backward()
    assert logits.grad is not None
    # The first adds I / (U (U - 1)) = 1 / 2 to 1 - IoU of class 0.
    assert float(logits.grad[0, 0, 0, 0]) == pytest.approx(np.exp(-30) / 2, rel=1e-3)
