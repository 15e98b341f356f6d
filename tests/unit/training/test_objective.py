"""What is minimised, by hand: the weighted sum, and a share of it at each auxiliary output."""

from __future__ import annotations

import math

import pytest
import torch

from segpipe.config.train import LossTerm
from segpipe.errors import ConfigError
from segpipe.training.objective import Objective, make_objective

TWO_CLASSES = torch.ones(2)
TARGET_NHW = torch.zeros(1, 2, 4, dtype=torch.int64)
EVEN_NCHW = torch.zeros(1, 2, 2, 4)


def _objective(*terms: dict[str, object], auxiliary_weight: float = 0.4) -> Objective:
    loss_terms = [LossTerm.model_validate(term) for term in terms or ({"name": "cross_entropy"},)]
    return make_objective(loss_terms, auxiliary_weight, TWO_CLASSES)


def _value(objective: Objective, logits_NCHW: torch.Tensor, target_NHW: torch.Tensor = TARGET_NHW) -> torch.Tensor:
    """Gives the objective of a step of one batch at one output."""
    (share,) = objective.shares_of([target_NHW])
    return share.of_logits(logits_NCHW)


def _of_outputs(
    objective: Objective, outputs: torch.Tensor | tuple[torch.Tensor, ...], target_NHW: torch.Tensor = TARGET_NHW
) -> tuple[torch.Tensor, torch.Tensor]:
    (share,) = objective.shares_of([target_NHW])
    return share.of_outputs(outputs)


def _logits(*rows: list[float]) -> torch.Tensor:
    """(1, 2, height, width): the first class has these logits, the second zero."""
    first_HW = torch.tensor(rows)
    return torch.stack([first_HW, torch.zeros_like(first_HW)])[None]


def test_the_sum_by_hand() -> None:
    # Even logits: cross-entropy ln 2; Dice of the class that is there 1 - (2 * 4 + 1) / (4 + 8 + 1).
    objective = _objective({"name": "cross_entropy", "weight": 2.0}, {"name": "dice", "weight": 0.5})
    assert float(_value(objective, EVEN_NCHW)) == pytest.approx(2 * math.log(2) + 0.5 * (1 - 9 / 13))


def test_a_term_counts_once_by_default() -> None:
    assert float(_value(_objective(), EVEN_NCHW)) == pytest.approx(math.log(2))


def test_class_weights_and_options_reach_the_terms() -> None:
    # Two pixels of each class at p = 3/4 for class 0: costs ln 4/3 and ln 4, weighed 3 to 1.
    target_NHW = torch.tensor([[[0, 0], [1, 1]]])
    terms = [LossTerm.model_validate({"name": "cross_entropy"})]
    objective = make_objective(terms, 0.4, torch.tensor([3.0, 1.0]))
    loss = _value(objective, _logits([math.log(3)] * 2, [math.log(3)] * 2), target_NHW)
    assert float(loss) == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)
    smoothed = _objective({"name": "cross_entropy", "options": {"label_smoothing": 1.0 - 1e-9}})
    value = _value(smoothed, _logits([math.log(3)]), target_NHW[:, :1, :1])
    assert float(value) == pytest.approx(math.log(16 / 3) / 2, rel=1e-5)


def test_two_micro_batches_by_hand() -> None:
    # One pixel at p = 1/2, then three at p = 3/4: pixels share the mean of four, Dice's terms (one class each) are two.
    batches = [(_logits([0.0]), torch.zeros(1, 1, 1, dtype=torch.int64))]
    batches += [(_logits([math.log(3)] * 3), torch.zeros(1, 1, 3, dtype=torch.int64))]
    objective = _objective({"name": "cross_entropy", "weight": 2.0}, {"name": "dice", "weight": 0.5})
    shares = objective.shares_of([target_NHW for _, target_NHW in batches])
    first, second = (float(share.of_logits(logits)) for share, (logits, _) in zip(shares, batches, strict=True))
    assert first == pytest.approx(2 * math.log(2) / 4 + 0.5 * (1 - 2 / 2.5) / 2)
    assert second == pytest.approx(2 * 3 * math.log(4 / 3) / 4 + 0.5 * (1 - 5.5 / 6.25) / 2)


def test_a_network_without_auxiliary_outputs_has_the_loss_alone() -> None:
    loss, main_NCHW = _of_outputs(_objective(), EVEN_NCHW)
    assert float(loss) == pytest.approx(math.log(2))
    assert main_NCHW is EVEN_NCHW
    loss, main_NCHW = _of_outputs(_objective(), (EVEN_NCHW,))
    assert float(loss) == pytest.approx(math.log(2))


def test_auxiliary_outputs_of_any_size_are_resized_bilinearly() -> None:
    # Half the width: between the centres of two pixels lie a quarter and three quarters of the way.
    coarse_NCHW = _logits([0.0, 4.0])
    expected = sum(math.log(1 + math.exp(-logit)) for logit in (0, 1, 3, 4)) / 4
    loss, main_NCHW = _of_outputs(_objective(), (EVEN_NCHW, coarse_NCHW))
    assert float(loss) == pytest.approx(math.log(2) + 0.4 * expected)
    assert main_NCHW is EVEN_NCHW


def test_every_auxiliary_output_has_the_same_weight_and_all_terms() -> None:
    objective = _objective({"name": "cross_entropy", "weight": 3.0}, auxiliary_weight=0.25)
    outputs = (EVEN_NCHW, _logits([math.log(3)]), EVEN_NCHW)
    loss, _ = _of_outputs(objective, outputs)
    assert float(loss) == pytest.approx(3 * (math.log(2) + 0.25 * (math.log(4 / 3) + math.log(2))))


def test_the_gradient_reaches_every_output() -> None:
    outputs = tuple(torch.zeros(1, 2, *size, requires_grad=True) for size in ((2, 4), (1, 2), (3, 3)))
    _of_outputs(_objective(), outputs)[0].backward()  # type: ignore[no-untyped-call]
    for output in outputs:
        assert output.grad is not None
        assert output.grad.abs().sum() > 0


def test_a_batch_of_void_costs_nothing() -> None:
    logits_NCHW = torch.zeros(1, 2, 2, 4, requires_grad=True)
    void_NHW = torch.full((1, 2, 4), 255)
    objective = _objective({"name": "cross_entropy"}, {"name": "dice"})
    loss, _ = _of_outputs(objective, (logits_NCHW, logits_NCHW), void_NHW)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logits_NCHW.grad is not None
    assert not logits_NCHW.grad.any()


def test_wrong_options_of_all_terms_come_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        _objective(
            {"name": "cross_entropy", "options": {"smoothing": 0.1}}, {"name": "dice", "options": {"smooth": -1.0}}
        )
    first, second = str(caught.value).splitlines()
    assert first.startswith("loss 'cross_entropy': option smoothing: unknown; did you mean 'label_smoothing'")
    assert second.startswith("loss 'dice': option smooth: must be greater than 0")
