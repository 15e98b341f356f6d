"""A step of several micro batches: its gradient is that of one large batch, or of the mean that the loss says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from segpipe.choices import LOSSES
from segpipe.classes import IGNORE_INDEX
from segpipe.config.train import LossTerm, Train
from segpipe.errors import ConfigError
from segpipe.inference.logits import normalize
from segpipe.losses.parts.weighted_sum import Loss
from segpipe.training.objective import Objective, make_objective
from segpipe.training.precision import Precision
from segpipe.training.prefetch import DeviceBatch
from segpipe.training.state import TrainState
from segpipe.training.step import add_gradients, halve_masks, take_step

NUM_IMAGES, NUM_CLASSES, SIDE_PX = 8, 3, 12
CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 4.0])
# Losses of which an item takes all pixels of its batch together; that of any other is one batch however it is cut.
OF_A_BATCH = {"dice", "tversky", "lovasz_softmax", "ohem_cross_entropy"}
EVERY_LOSS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in LOSSES.names()]
OF_PARTS: list[tuple[str, dict[str, Any]]] = [
    *(term for term in EVERY_LOSS if term[0] not in OF_A_BATCH),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("lovasz_softmax", {"per_image": True}),
    ("lovasz_softmax", {"per_image": True, "stride": 2}),
    ("ohem_cross_entropy", {"threshold": 1.0, "min_kept_share": 1.0}),
]


class TwoHeads(nn.Module):
    """A small network without batch norm, with an auxiliary output at half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.main, self.auxiliary = (nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1))

    def forward(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features_NCHW = torch.tanh(self.body(images_NCHW))
        return self.main(features_NCHW), self.auxiliary(F.avg_pool2d(features_NCHW, 2))


@pytest.fixture
def network() -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads()


@pytest.fixture
def large() -> DeviceBatch:
    """Eight images of blocks: the first is void, the second nearly so, the last has no void."""
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, NUM_CLASSES, (NUM_IMAGES, 4, 4), generator=generator)
    masks = blocks.repeat_interleave(3, 1).repeat_interleave(3, 2).to(torch.uint8)
    for index in range(NUM_IMAGES):
        masks[index, : SIDE_PX - 2 * index] = IGNORE_INDEX
    images = torch.randint(0, 256, (NUM_IMAGES, SIDE_PX, SIDE_PX, 3), dtype=torch.uint8, generator=generator)
    return DeviceBatch(images, masks)


def _cut(batch: DeviceBatch, size: int) -> list[DeviceBatch]:
    parts = zip(batch.images_NHWC.split(size), batch.masks_NHW.split(size), strict=True)  # type: ignore[no-untyped-call]
    return [DeviceBatch(*part) for part in parts]


def _objective(*terms: tuple[str, dict[str, Any]], factors: Sequence[float] = (1.0, 0.3)) -> Objective:
    chosen = zip(terms, factors[: len(terms)], strict=True)
    loss_terms = [LossTerm(name=name, options=options, weight=factor) for (name, options), factor in chosen]
    return make_objective(loss_terms, 0.4, CLASS_WEIGHTS)


def _gradients(network: nn.Module, objective: Objective, batches: list[DeviceBatch]) -> tuple[float, torch.Tensor]:
    network.zero_grad()
    loss = add_gradients(_state(network), objective, batches, is_half=False, observe=lambda *_: None)
    return float(loss), _flat(network)


def _state(network: nn.Module, precision: str = "float32") -> TrainState:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return TrainState(network, optimizer, ConstantLR(optimizer), precision=Precision.of(precision, torch.device("cpu")))


def _flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def _assert_near(found: tuple[float, torch.Tensor], expected: tuple[float, torch.Tensor]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("term", OF_PARTS, ids=str)
def test_micro_batches_have_the_gradient_of_one_large_batch(
    network: TwoHeads, large: DeviceBatch, term: tuple[str, dict[str, Any]], size: int
) -> None:
    expected = _gradients(network, _objective(term), [large])
    _assert_near(_gradients(network, _objective(term), _cut(large, size)), expected)
    # The mean of the micro batches' own gradients is another one: void is unevenly spread over them.
    alone = [_gradients(network, _objective(term), [part])[1] for part in _cut(large, size)]
    assert (torch.stack(alone).mean(dim=0) - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("term", [*EVERY_LOSS, *OF_PARTS], ids=str)
def test_a_step_is_the_weighted_mean_of_its_micro_batches(
    network: TwoHeads, large: DeviceBatch, term: tuple[str, dict[str, Any]]
) -> None:
    """Written out: sum over micro batches of weight times loss, divided by the sum of the weights."""
    parts = _cut(large, 2)
    loss: Loss = LOSSES.call(term[0], term[1], class_weights=CLASS_WEIGHTS)
    weights = [float(loss.weigh(part.masks_NHW.long()).sum()) for part in parts]
    assert len(set(weights)) > 1
    network.zero_grad()
    expected = 0.0
    for part, weight in zip(parts, weights, strict=True):
        main_NCHW, auxiliary_NCHW = network(normalize(part.images_NHWC))
        resized_NCHW = F.interpolate(auxiliary_NCHW, (SIDE_PX, SIDE_PX), mode="bilinear")
        target_NHW = part.masks_NHW.long()
        value = loss(main_NCHW, target_NHW).mean() + 0.4 * loss(resized_NCHW, target_NHW).mean()
        (value * weight / sum(weights)).backward()
        expected += float(value.detach()) * weight / sum(weights)
    gradients = _flat(network)
    _assert_near(_gradients(network, _objective(term), parts), (expected, gradients))


def test_each_term_of_an_objective_is_divided_by_its_own_weight(network: TwoHeads, large: DeviceBatch) -> None:
    """Pixels and images are not spread alike: 8 x 1 is the large batch only if the terms are weighed apart."""
    objective = _objective(("cross_entropy", {}), ("lovasz_softmax", {"per_image": True}), factors=(0.7, 1.3))
    expected = _gradients(network, objective, [large])
    for size in (1, 2, 3, 5):
        _assert_near(_gradients(network, objective, _cut(large, size)), expected)


def test_half_resolution_is_weighed_by_what_the_network_sees(network: TwoHeads, large: DeviceBatch) -> None:
    objective = _objective(("cross_entropy", {}))
    gradients = []
    for size in (8, 2):
        network.zero_grad()
        add_gradients(_state(network), objective, _cut(large, size), is_half=True, observe=lambda *_: None)
        gradients.append(_flat(network))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_half", [False, True])
def test_maps_that_were_drawn_ahead_give_the_same_gradients(
    network: TwoHeads, large: DeviceBatch, is_half: bool
) -> None:
    objective = _objective(("cross_entropy", {}), ("border_cross_entropy", {"sigma_px": 2.0}))
    maps = objective.draw(halve_masks(large.masks_NHW) if is_half else large.masks_NHW)
    double = tuple(None if one is None else 2 * one for one in maps)
    found = []
    for ahead in ((), maps, double):
        network.zero_grad()
        parts = replace(large, maps=ahead).split(3)
        add_gradients(_state(network), objective, parts, is_half, observe=lambda *_: None)
        found.append(_flat(network).clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2]), "it takes the maps that it is given"


def test_a_step_of_void_has_no_gradient(network: TwoHeads, large: DeviceBatch) -> None:
    void = DeviceBatch(large.images_NHWC, torch.full_like(large.masks_NHW, IGNORE_INDEX))
    loss, gradients = _gradients(network, _objective(("cross_entropy", {}), ("dice", {})), _cut(void, 2))
    assert loss == 0
    assert not gradients.any()


def test_each_micro_batch_is_shown_once(network: TwoHeads, large: DeviceBatch) -> None:
    seen: list[tuple[torch.Size, torch.Size, bool]] = []

    def observe(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> None:
        seen.append((logits_NCHW.shape, target_NHW.shape, logits_NCHW.requires_grad))

    add_gradients(_state(network), _objective(("cross_entropy", {})), _cut(large, 3), is_half=True, observe=observe)
    assert seen == [((size, 3, 6, 6), (size, 6, 6), False) for size in (3, 3, 2)]


def test_a_step_uses_up_its_gradients(
    network: TwoHeads, large: DeviceBatch, make_train_settings: Callable[..., Train]
) -> None:
    state = TrainState.begin(network, make_train_settings(ema_decay=0.9), steps_per_epoch=1)
    _gradients(network, _objective(("cross_entropy", {})), [large])
    before = network.main.weight.detach().clone()
    take_step(state, max_gradient_norm=1.0)
    assert not torch.equal(network.main.weight, before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert state.average is not None
    assert int(state.average.n_averaged) == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_have_nearly_the_gradients_of_32(network: TwoHeads, large: DeviceBatch, precision: str) -> None:
    objective, batches = _objective(("cross_entropy", {})), _cut(large, 4)
    loss, gradients = _gradients(network, objective, batches)
    network.zero_grad()
    state = _state(network, precision)
    seen = []
    found = add_gradients(state, objective, batches, is_half=False, observe=lambda logits, _: seen.append(logits.dtype))
    if state.precision.scaler is not None:
        state.precision.scaler.unscale_(state.optimizer)
    assert {*seen} == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(loss, rel=0.01)
    torch.testing.assert_close(_flat(network), gradients, rtol=0.05, atol=0.02 * float(gradients.abs().max()))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_step_whose_gradients_overflow_moves_nothing_but_the_factor(
    network: TwoHeads, large: DeviceBatch, make_train_settings: Callable[..., Train]
) -> None:
    settings = make_train_settings(precision="fp16", ema_decay=0.9, schedule={"name": "cosine", "warmup_share": 0.0})
    state = TrainState.begin(network, settings, steps_per_epoch=100)
    scaler, objective = state.precision.scaler, _objective(("cross_entropy", {}))
    assert scaler is not None and state.average is not None
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for factor, is_left_out in ((2.0**40, True), (2.0**10, False)):
        scaler.load_state_dict(scaler.state_dict() | {"scale": factor})
        rate, num_averaged = state.schedule.get_last_lr(), int(state.average.n_averaged)
        add_gradients(state, objective, [large], is_half=False, observe=lambda *_: None)
        take_step(state, max_gradient_norm=0.1)
        has_moved = not all(map(torch.equal, before, network.parameters()))
        assert has_moved is not is_left_out
        assert (state.schedule.get_last_lr() == rate) is is_left_out
        assert (int(state.average.n_averaged) == num_averaged) is is_left_out
        assert (scaler.get_scale() < factor) is is_left_out
        assert all(parameter.grad is None for parameter in network.parameters())
    # The limit is of the gradients without the factor.
    moves = torch.cat([(a - b).flatten() for a, b in zip(before, network.parameters(), strict=True)])
    assert moves.isfinite().all()


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_a_first_step_that_is_left_out_leaves_no_trace(
    network: TwoHeads,
    large: DeviceBatch,
    make_train_settings: Callable[..., Train],
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    # Memory that nobody has written holds NaN, so that it is seen where it is used.
    make_empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *args, **options: make_empty(*args, **options).fill_(torch.nan))
    objective, results = _objective(("cross_entropy", {})), []
    for factors in ([2.0**10], [2.0**40, 2.0**10]):
        state = TrainState.begin(copy.deepcopy(network), make_train_settings(precision="fp16", optimizer=optimizer), 9)
        scaler = state.precision.scaler
        assert scaler is not None
        for factor in factors:
            scaler.load_state_dict(scaler.state_dict() | {"scale": factor})
            add_gradients(state, objective, [large], is_half=False, observe=lambda *_: None)
            take_step(state, max_gradient_norm=None)
        results.append(torch.cat([parameter.detach().flatten() for parameter in state.module.parameters()]))
    assert torch.equal(results[0], results[1])


@given(arrays(np.uint8, (2, 6, 9), elements=st.sampled_from([0, 1, 2, IGNORE_INDEX])))
def test_a_halved_mask_has_the_most_frequent_value_of_each_block(masks: npt.NDArray[np.uint8]) -> None:
    halved = halve_masks(torch.from_numpy(masks)).numpy()
    assert halved.shape == (2, 3, 4)
    for (index, row, column), value in np.ndenumerate(halved):
        block = masks[index, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()
        assert block.count(value) == max(block.count(other) for other in block)


@pytest.mark.parametrize("is_row", [True, False])
def test_a_halved_border_stays_where_it_is(is_row: bool) -> None:
    masks = torch.zeros(1, 16, 16, dtype=torch.uint8)
    masks[..., 7:] = 1  # in the middle of blocks
    halved = halve_masks(masks.mT if is_row else masks)
    assert halved.sum() / halved.numel() == (masks.sum() / masks.numel())


def test_tf32_is_refused_where_there_is_no_gpu_and_changes_only_matrix_products() -> None:
    with pytest.raises(ConfigError, match=r"train\.precision: tf32 .* write auto"):
        Precision.of("tf32", torch.device("cpu"))
    try:
        assert Precision.of("tf32", torch.device("cuda")).dtype == torch.float32
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        Precision.of("float32", torch.device("cpu"))
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
