"""An evaluation equals a slow loop over pixels, however the samples are cut into batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from samples import Sample
from torch import nn

from segpipe.choices import EVIDENCE
from segpipe.classes import IGNORE_INDEX
from segpipe.data.store import Store
from segpipe.inference import evaluate as evaluate_module
from segpipe.inference import predictor, tiles
from segpipe.inference.evaluate import evaluate
from segpipe.inference.logits import MEAN_RGB, STD_RGB
from segpipe.inference.predictor import Predictor
from segpipe.losses.cross_entropy import build_loss
from segpipe.losses.parts.weighted_sum import Loss
from segpipe.metrics.evidence.confusion import confusion_matrix


@pytest.fixture
def store(make_store: Callable[..., Store], make_sample: Callable[..., Sample]) -> Store:
    sizes = [(12, 16)] * 3 + [(16, 8)] * 2
    return make_store([make_sample(f"v_{i}", "val", *size) for i, size in enumerate(sizes)])


@pytest.fixture
def module() -> nn.Conv2d:
    """A network of one pixel's sight, whose answer is easily computed by hand."""
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 1)


TERMS = [(1.0, build_loss(class_weights=torch.ones(3)))]


def test_equals_a_slow_loop(store: Store, module: nn.Conv2d) -> None:
    weight, bias = module.weight.detach().double().numpy()[:, :, 0, 0], module.bias.detach().double().numpy()
    expected = np.zeros((5, 3, 3), np.int64)
    for index in range(len(store)):
        image, mask = store.read(index)
        for y, x in np.ndindex(*mask.shape):
            if mask[y, x] != IGNORE_INDEX:
                normalised = (image[y, x].astype(np.float64) - MEAN_RGB) / STD_RGB
                expected[index, mask[y, x], np.argmax(weight @ normalised + bias)] += 1
    evaluation = evaluate(Predictor(module), store, TERMS)
    np.testing.assert_array_equal(evaluation.confusions.dense(), expected)
    summed = expected.sum(axis=0)
    iou = summed.diagonal() / (summed.sum(axis=0) + summed.sum(axis=1) - summed.diagonal())
    assert evaluation.mean_iou == pytest.approx(iou.mean())


def test_what_is_counted_is_what_is_predicted(store: Store) -> None:
    """Of equal logits too: the arg-max of an evaluation is that of a mask."""
    flat = nn.Conv2d(3, 3, 1)
    for weights in (torch.zeros(3, 3), torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])):
        flat.weight.data, flat.bias.data = weights.view(3, 3, 1, 1), torch.zeros(3)
        evaluation = evaluate(Predictor(flat), store, TERMS)
        for index in range(len(store)):
            image, mask = store.read(index)
            counts = confusion_matrix(Predictor(flat).predict_masks(image[None])[0], mask, 3)
            np.testing.assert_array_equal(evaluation.confusions.dense()[index], counts)


@pytest.mark.parametrize("max_batch_px", [1, 12 * 16 * 2, 1 << 20])
def test_does_not_depend_on_the_batches(
    store: Store, module: nn.Conv2d, monkeypatch: pytest.MonkeyPatch, max_batch_px: int
) -> None:
    expected = evaluate(Predictor(module), store, TERMS)
    monkeypatch.setattr(evaluate_module, "MAX_BATCH_PX", max_batch_px)
    np.testing.assert_array_equal(
        evaluate(Predictor(module), store, TERMS).confusions.dense(), expected.confusions.dense()
    )


def test_the_loss_is_the_mean_of_the_batches(store: Store, module: nn.Conv2d) -> None:
    costs = iter([1.0, 4.0])  # one batch for each size
    loss = Loss(weigh=lambda _: torch.tensor([7.0]), cost=lambda *_: torch.tensor([next(costs)]))
    assert evaluate(Predictor(module), store, [(2.0, loss)]).loss == 2 * 2.5


def test_the_network_evaluates_and_does_not_learn(store: Store, module: nn.Conv2d) -> None:
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(module, norm).train()
    evaluate(Predictor(network), store, TERMS)
    assert not network.training
    assert norm.num_batches_tracked == 0
    assert module.weight.grad is None


@pytest.fixture
def cut_above(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets images of more than so many px be predicted by windows of 16 px."""

    def cut(max_whole_px: int) -> None:
        monkeypatch.setattr(tiles, "MAX_WHOLE_PX", max_whole_px)
        monkeypatch.setattr(predictor, "LARGE_WINDOW_PX", 16)
        monkeypatch.setattr(tiles, "ALIGNMENT_PX", 4)

    return cut


def test_tiles_count_what_the_whole_counts(
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    module: nn.Conv2d,
    cut_above: Callable[[int], None],
) -> None:
    sizes = [(12, 16), (40, 52), (40, 52), (12, 16)]
    store = make_store([make_sample(f"v_{i}", "val", *size) for i, size in enumerate(sizes)])
    kinds = EVIDENCE.names()
    whole = evaluate(Predictor(module), store, TERMS, kinds).evidence
    cut_above(12 * 16)
    tiled = evaluate(Predictor(module), store, TERMS, kinds).evidence
    assert set(tiled) == set(kinds)
    for kind in kinds:
        np.testing.assert_allclose(tiled[kind].dense(), whole[kind].dense(), rtol=1e-6)


def test_the_loss_of_tiles_is_the_loss_of_the_whole_image(
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    module: nn.Conv2d,
    cut_above: Callable[[int], None],
) -> None:
    sample = make_sample("v_0", "val", 40, 52)
    sample.mask[:20, :20] = IGNORE_INDEX  # a tile of nothing else, and some of little else
    store = make_store([sample], "one")
    # Each tile holds another share of the classes: with class weights the mean of the tiles' losses is another one.
    terms = [(0.3, build_loss(class_weights=torch.tensor([0.5, 1.0, 4.0]))), *TERMS]
    whole = evaluate(Predictor(module), store, terms).loss
    cut_above(1)
    assert evaluate(Predictor(module), store, terms).loss == pytest.approx(whole, rel=1e-6)


def test_an_image_of_void_has_no_loss(
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    module: nn.Conv2d,
    cut_above: Callable[[int], None],
) -> None:
    sample = make_sample("v_0", "val", 40, 52)
    sample.mask[:] = IGNORE_INDEX
    cut_above(1)
    evaluation = evaluate(Predictor(module), make_store([sample]), TERMS)
    assert evaluation.loss == 0
    assert not evaluation.confusions.total().any()


def test_a_huge_image_takes_no_more_than_a_window_and_leaves_the_batches_of_others_alone(
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    cut_above: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluate_module, "MAX_BATCH_PX", 3 * 12 * 16)
    sizes = [(12, 16), (12, 16), (40, 52), (12, 16), (12, 16), (12, 16)]
    store = make_store([make_sample(f"v_{i}", "val", *size) for i, size in enumerate(sizes)])
    seen = []

    class Recorder(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            seen.append((len(images_NCHW), *images_NCHW.shape[2:]))
            return images_NCHW

    cut_above(12 * 16)
    evaluate(Predictor(Recorder()), store, TERMS)
    assert (seen[0], seen[-1]) == ((2, 12, 16), (3, 12, 16))
    assert all(number == 1 and max(sides) < 16 + 4 for number, *sides in seen[1:-1])
