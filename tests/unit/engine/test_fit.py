"""The training loop: what it reports, keeps and repeats, and that an interruption changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file
from samples import Sample

from segpipe.config import Train
from segpipe.data.loader import TrainLoader
from segpipe.data.store import Store
from segpipe.engine import fit as fit_module
from segpipe.engine import tiles
from segpipe.engine.checkpoint import CHECKPOINT, Progress
from segpipe.engine.evaluate import evaluate
from segpipe.engine.fit import BEST_WEIGHTS, LAST_WEIGHTS, Fit, Interrupted, fit
from segpipe.engine.network import build_network
from segpipe.files import sha256_of_file
from segpipe.registry import LOSSES

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 3


class Sink:
    """Remembers what it is told; fails at the given call, as a full disk would."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.images: list[tuple[int, str, tuple[int, ...]]] = []
        self.is_broken = False

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        if self.is_broken:
            raise OSError("no space")
        self.metrics.append((epoch, dict(metrics)))

    def log_image(self, name: str, image: npt.NDArray[np.uint8], epoch: int) -> None:
        self.images.append((epoch, name, image.shape))


@pytest.fixture
def store(make_store: Callable[..., Store], make_sample: Callable[..., Sample]) -> Store:
    """Six samples to train, two to validate."""
    return make_store([make_sample(f"t_{i}") for i in range(6)] + [make_sample(f"v_{i}", "val") for i in range(2)])


@pytest.fixture
def make_job(store: Store, make_train_settings: Callable[..., Train], tmp_path: Path) -> Callable[..., Fit]:
    """Builds a job; `init_seed` is of the first weights, which a checkpoint replaces."""

    def make(name: str, should_stop: Callable[[], bool] = lambda: False, init_seed: int = 0, **changes: Any) -> Fit:
        settings = make_train_settings(**changes)
        torch.manual_seed(init_seed)
        module = build_network(settings.model.name, settings.model.options, 3)
        loss = LOSSES.call(settings.loss.name, class_weights=torch.ones(3))
        loader = TrainLoader(store.of_split("train"), settings.augment, settings.batch_size, settings.seed)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Fit(module, loss, loader, store.of_split("val"), settings, CPU, folder, Sink(), should_stop)

    return make


def _stop_at(number: int) -> Callable[[], bool]:
    """Asks to stop at the given question, counted from 1: three steps and the end make four an epoch."""
    questions = iter(range(1, 1000))
    return lambda: next(questions) == number


def _results(job: Fit, progress: Progress) -> list[str]:
    """Everything that must not depend on how often a training was interrupted."""
    hashes = [sha256_of_file(job.folder / name) for name in (BEST_WEIGHTS, LAST_WEIGHTS)]
    return [*hashes, json.dumps(progress.history), str((progress.best_epoch, progress.best_mean_iou))]


def _script_evaluations(monkeypatch: pytest.MonkeyPatch, mean_ious: list[float]) -> None:
    script = iter(mean_ious)

    def scripted(module: torch.nn.Module, *_: object) -> object:
        module.eval()
        return SimpleNamespace(loss=1.0, scores=SimpleNamespace(mean_iou=next(script)))

    monkeypatch.setattr(fit_module, "evaluate", scripted)


def test_each_epoch_is_reported_and_a_network_is_kept(make_job: Callable[..., Fit], store: Store) -> None:
    job = make_job("a", epochs=3)
    progress = fit(job)
    assert [row["epoch"] for row in progress.history] == [1, 2, 3]
    assert set(progress.history[0]) == {
        *("epoch", "train_loss", "train_mean_iou", "learning_rate", "val_loss", "val_mean_iou")
    }
    sink = job.sink
    assert isinstance(sink, Sink)
    assert [epoch for epoch, _ in sink.metrics] == [1, 2, 3]
    for (epoch, metrics), row in zip(sink.metrics, progress.history, strict=True):
        assert metrics.pop("images_per_second") > 0
        assert {"epoch": epoch, **metrics} == row
    assert sink.images == [(epoch, f"v_{i}", (32, 96, 3)) for epoch in (1, 2, 3) for i in range(2)]
    assert progress.history[2]["train_loss"] < progress.history[0]["train_loss"]


def test_the_kept_weights_score_what_the_history_says(make_job: Callable[..., Fit], store: Store) -> None:
    job = make_job("a", epochs=3, learning_rate=0.03)
    progress = fit(job)
    scores = [row["val_mean_iou"] for row in progress.history]
    assert progress.best_mean_iou == max(scores) == scores[progress.best_epoch - 1]
    other = make_job("b", init_seed=9).module
    other.load_state_dict(load_file(job.folder / BEST_WEIGHTS))
    assert evaluate(other, store.of_split("val"), job.loss, CPU).scores.mean_iou == progress.best_mean_iou


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "ema_decay": 0.9,
            "schedule": {"name": "one_cycle", "warmup_share": 0.3},
            "half_resolution_share": 0.5,
            "augment": {
                "crop": [32, 32],
                "scale": [0.8, 1.5],
                "rare_class_crop": {"probability": 0.5},
                "transforms": [
                    {"name": "flip", "probability": 0.5},
                    {"name": "color_jitter", "options": {"brightness": 0.3}},
                    {"name": "classmix", "probability": 0.5},
                ],
            },
        },
        {"optimizer": "sgd", "schedule": {"name": "poly"}, "batch_size": 4, "epochs": 6},
    ],
    ids=["plain", "everything", "sgd"],
)
def test_two_trainings_are_the_same_bit_for_bit(make_job: Callable[..., Fit], changes: dict[str, Any]) -> None:
    jobs = [make_job(name, **changes) for name in ("a", "b")]
    assert _results(jobs[0], fit(jobs[0])) == _results(jobs[1], fit(jobs[1]))


@pytest.mark.parametrize(
    "stops",
    [[1], [2], [3], [4], [6], [8], [2, 3], [1] * 6],
    ids=lambda stops: "stop at " + ",".join(map(str, stops)),
)
@pytest.mark.parametrize("ema_decay", [None, 0.9], ids=["plain", "average"])
def test_an_interruption_changes_nothing(
    make_job: Callable[..., Fit], stops: list[int], ema_decay: float | None
) -> None:
    """Questions 1 to 3 follow the steps of the first epoch, 4 its end, and so on."""
    changes = {"ema_decay": ema_decay, "half_resolution_share": 0.5, "augment": {"crop": [32, 32], "scale": [0.8, 1.2]}}
    whole = make_job("whole", **changes)
    expected = _results(whole, fit(whole))
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted):
            fit(make_job("cut", _stop_at(stop), init_seed=number, **changes))
        assert (whole.folder.parent / "cut" / CHECKPOINT).exists()
    resumed = make_job("cut", init_seed=99, **changes)
    assert _results(resumed, fit(resumed)) == expected


def test_another_seed_is_another_training(make_job: Callable[..., Fit]) -> None:
    jobs = [make_job("a"), make_job("b", seed=1)]
    results = [_results(job, fit(job)) for job in jobs]
    assert results[0][0] != results[1][0]


def test_a_finished_training_is_not_trained_again(make_job: Callable[..., Fit]) -> None:
    first = make_job("a")
    expected = _results(first, fit(first))
    again = make_job("a", init_seed=5)
    assert _results(again, fit(again)) == expected
    assert again.sink.metrics == []  # type: ignore[attr-defined]


def test_an_epoch_whose_report_failed_is_reported_on_going_on(make_job: Callable[..., Fit]) -> None:
    """A kill between checkpoint and report would lose the epoch; the journal takes one twice."""
    broken = make_job("a")
    broken.sink.is_broken = True  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="no space"):
        fit(broken)
    resumed = make_job("a")
    fit(resumed)
    assert [epoch for epoch, _ in resumed.sink.metrics] == [1, 2]  # type: ignore[attr-defined]


def test_the_best_epoch_is_kept_not_the_last(make_job: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch) -> None:
    states = []

    def remember(module: torch.nn.Module, *_: object) -> object:
        module.eval()
        states.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        mean_iou = [0.3, 0.5, 0.5, 0.4][len(states) - 1]
        return SimpleNamespace(loss=1.0, scores=SimpleNamespace(mean_iou=mean_iou))

    monkeypatch.setattr(fit_module, "evaluate", remember)
    job = make_job("a", epochs=4)
    progress = fit(job)
    assert (progress.best_epoch, progress.best_mean_iou) == (2, 0.5)  # the first of two equals
    for file, state in ((BEST_WEIGHTS, states[1]), (LAST_WEIGHTS, states[3])):
        loaded = load_file(job.folder / file)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("mean_ious", "early_stopping", "num_epochs"),
    [
        ([0.1, 0.2, 0.2, 0.2, 0.9], {"patience": 2}, 4),  # nothing better in epochs 3 and 4
        ([0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.9], {"patience": 2}, 6),
        ([0.1, 0.12, 0.14, 0.16, 0.18, 0.9], {"patience": 3, "min_delta": 0.05}, 6),  # 0.16 is 0.06 above 0.1
        ([0.1, 0.11, 0.12, 0.9], {"patience": 2, "min_delta": 0.05}, 3),
        ([0.5, 0.4, 0.3, 0.2], None, 4),
    ],
)
def test_early_stopping(
    make_job: Callable[..., Fit],
    monkeypatch: pytest.MonkeyPatch,
    mean_ious: list[float],
    early_stopping: dict[str, float] | None,
    num_epochs: int,
) -> None:
    _script_evaluations(monkeypatch, mean_ious)
    job = make_job("a", epochs=len(mean_ious), early_stopping=early_stopping)
    assert len(fit(job).history) == num_epochs
    assert (job.folder / LAST_WEIGHTS).exists()


def test_early_stopping_waits_for_the_first_validation(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", epochs=4, validate_every=3, early_stopping={"patience": 1})
    progress = fit(job)
    assert progress.best_epoch > 0
    assert (job.folder / BEST_WEIGHTS).exists()


def test_only_every_few_epochs_and_the_last_are_validated(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", epochs=5, validate_every=2)
    progress = fit(job)
    assert [row["epoch"] for row in progress.history if "val_mean_iou" in row] == [2, 4, 5]
    assert sorted({epoch for epoch, *_ in job.sink.images}) == [2, 4, 5]  # type: ignore[attr-defined]


def test_overlays_are_drawn_at_about_eight_epochs(
    make_job: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    _script_evaluations(monkeypatch, [0.1] * 33)
    job = make_job("a", epochs=33, num_overlays=1, batch_size=6)
    fit(job)
    assert [epoch for epoch, *_ in job.sink.images] == [4, 8, 12, 16, 20, 24, 28, 32, 33]  # type: ignore[attr-defined]


def test_the_average_is_what_is_validated_and_kept(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", ema_decay=0.9)
    fit(job)
    last, trained = load_file(job.folder / LAST_WEIGHTS), job.module.state_dict()
    for name in ("head.weight", "first.1.running_mean"):  # the statistics of the norms are averaged too
        assert not torch.equal(last[name], trained[name]), name


def test_half_resolution_is_what_the_network_sees_in_its_share_of_the_epochs(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", epochs=4, half_resolution_share=0.5, augment={"crop": [34, 38]})
    sizes: list[tuple[int, ...]] = []
    job.module.register_forward_pre_hook(
        lambda _, inputs: sizes.append(inputs[0].shape[-2:]) if job.module.training else None
    )
    fit(job)
    assert sizes == [(17, 19)] * 2 * STEPS_PER_EPOCH + [(34, 38)] * 2 * STEPS_PER_EPOCH


def test_an_odd_crop_can_be_halved(make_job: Callable[..., Fit]) -> None:
    assert len(fit(make_job("a", half_resolution_share=1.0, augment={"crop": [33, 35]})).history) == 2


def test_weights_on_disk_are_in_plain_layout(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", epochs=1)
    fit(job)
    assert all(tensor.is_contiguous() for tensor in load_file(job.folder / BEST_WEIGHTS).values())


def test_huge_images_are_validated_and_drawn_tile_by_tile(
    make_job: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MAX_WHOLE_PX": 1, "WINDOW_PX": 16, "MARGIN_PX": 4, "ALIGNMENT_PX": 4}.items():
        monkeypatch.setattr(tiles, name, value)
    job = make_job("a", epochs=1)
    sizes = []

    def remember(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if not module.training:
            sizes.append(tuple(inputs[0].shape))

    job.module.register_forward_pre_hook(remember)
    fit(job)
    assert isinstance(job.sink, Sink)
    assert [shape for *_, shape in job.sink.images] == [(32, 96, 3)] * 2
    assert set(sizes) == {(1, 3, 16, 16)}
