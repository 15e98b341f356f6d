"""The training loop: what it reports, keeps and repeats, and that an interruption changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from samples import Sample

from segpipe.classes import IGNORE_INDEX
from segpipe.config.train import Train
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import Store
from segpipe.errors import ConfigError, TrainingError
from segpipe.files import sha256_of_file
from segpipe.inference import predictor, tiles
from segpipe.inference.evaluate import evaluate
from segpipe.inference.logits import normalize
from segpipe.inference.network import build_network
from segpipe.inference.predictor import Predictor
from segpipe.losses.parts.border_map import measure_closeness
from segpipe.training import loop
from segpipe.training.checkpoint import CHECKPOINT, PREVIOUS, read_checkpoint
from segpipe.training.loop import BEST_WEIGHTS, Fit, Interrupted, fit
from segpipe.training.objective import make_objective
from segpipe.training.state import Progress
from segpipe.training.step import halve_masks

STEPS_PER_EPOCH = 3
SMALL = {"width": 4, "depth": 2}
# Without batch norm, which sees each batch by itself, and with plain steps: then sums of gradients can be compared.
PLAIN_STEPS = {
    "model": {"name": "unet", "options": {**SMALL, "batch_norm": False}},
    "optimizer": "sgd",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": {"name": "constant", "warmup_share": 0.0},
}


Pixels = npt.NDArray[np.uint8]


class Sink:
    """Remembers what it is told; fails at the given call, as a full disk would."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.predictions: list[tuple[int, str, tuple[int, ...]]] = []
        self.is_broken = False

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        if self.is_broken:
            raise OSError("no space")
        self.metrics.append((epoch, dict(metrics)))

    def log_prediction(self, name: str, image: Pixels, truth: Pixels, prediction: Pixels, epoch: int) -> None:
        assert image.shape == (*truth.shape, 3)
        assert (prediction < 3).all()  # three classes, and no void
        self.predictions.append((epoch, name, prediction.shape))


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
        module = build_network(settings.model.name, settings.model.options, 3, settings.model.in_channels)
        objective = make_objective(settings.loss, settings.auxiliary_weight, torch.ones(3))
        loader = TrainLoader(store.of_split("train"), settings.augment, settings.batch_size, settings.seed)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Fit(module, objective, loader, store.of_split("val"), settings, folder, Sink(), should_stop)

    return make


def _stop_at(number: int) -> Callable[[], bool]:
    """Asks to stop at the given question, counted from 1: three steps and the end make four an epoch."""
    questions = iter(range(1, 1000))
    return lambda: next(questions) == number


def _results(job: Fit, progress: Progress) -> list[str]:
    """Everything that must not depend on how often a training was interrupted: what it keeps, and its last state."""
    states = read_checkpoint(job.folder / CHECKPOINT).states
    assert {"module", "optimizer", "schedule", "best"} <= states.keys()
    assert ("average" in states) is (job.settings.ema_decay is not None)
    hashes = [sha256_of_file(job.folder / BEST_WEIGHTS), *(_digest(states[name]) for name in sorted(states))]
    return [*hashes, json.dumps(progress.history), str((progress.best_epoch, progress.best_mean_iou))]


def _digest(state: object) -> str:
    """Identifies nested numbers and tensors bit for bit, whatever their names' order."""
    if isinstance(state, torch.Tensor):
        content = repr((state.dtype, tuple(state.shape))).encode() + state.contiguous().numpy().tobytes()
    elif isinstance(state, Mapping):
        content = repr(sorted((str(name), _digest(value)) for name, value in state.items())).encode()
    elif isinstance(state, list | tuple):
        content = repr([_digest(value) for value in state]).encode()
    else:
        content = repr(state).encode()
    return hashlib.sha256(content).hexdigest()


def _script_evaluations(monkeypatch: pytest.MonkeyPatch, mean_ious: list[float]) -> None:
    script = iter(mean_ious)

    def scripted(module: torch.nn.Module, *_: object) -> tuple[float, float]:
        module.eval()
        return next(script), 1.0

    monkeypatch.setattr(loop, "validate", scripted)


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
    hours = [metrics.pop("device_hours") for _, metrics in sink.metrics]
    assert 0 < hours[0] < hours[1] < hours[2]
    for (epoch, metrics), row in zip(sink.metrics, progress.history, strict=True):
        assert metrics.pop("images_per_second") > 0
        assert 0 <= metrics.pop("data_wait_share") <= 1
        assert {"epoch": epoch, **metrics} == row
    assert sink.predictions == [(epoch, f"v_{i}", (32, 32)) for epoch in (1, 2, 3) for i in range(2)]
    assert progress.history[2]["train_loss"] < progress.history[0]["train_loss"]


def test_the_kept_weights_score_what_the_history_says(make_job: Callable[..., Fit], store: Store) -> None:
    job = make_job("a", epochs=3, learning_rate=0.03)
    progress = fit(job)
    scores = [row["val_mean_iou"] for row in progress.history]
    assert progress.best_mean_iou == max(scores) == scores[progress.best_epoch - 1]
    other = make_job("b", init_seed=9).module
    other.load_state_dict(load_file(job.folder / BEST_WEIGHTS))
    assert evaluate(Predictor(other), store.of_split("val"), job.objective.terms).mean_iou == progress.best_mean_iou


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
                "rare_class_crop": {"probability": 0.5, "power": 1.0},
                "transforms": [
                    {"name": "flip", "probability": 0.5},
                    {"name": "color_jitter", "options": {"brightness": 0.3}},
                    {"name": "classmix", "probability": 0.5},
                ],
            },
        },
        {"optimizer": "sgd", "schedule": {"name": "poly"}, "batch_size": 4, "epochs": 6},
        {"precision": "bf16"},
    ],
    ids=["plain", "everything", "sgd", "bf16"],
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


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate_batches": 2},
        {"accumulate_batches": 4, "ema_decay": 0.9, "clip_gradient_norm": 0.1},
        {"precision": "fp16", "ema_decay": 0.9},
        # The first stop is within the warm-up.
        {"schedule": {"name": "step", "factor": 0.5, "milestones": [0.6, 0.8], "warmup_share": 0.5}},
        {"schedule": {"name": "exponential", "factor": 0.5, "warmup_share": 0.4}, "optimizer": "rmsprop"},
        {"schedule": {"name": "plateau", "factor": 0.5, "patience": 1}, "optimizer": "adam"},
        {"freeze": ["first"], "learning_rate_factors": {"down": 0.1}, "ema_decay": 0.9, "freeze_batch_norm": ["merge"]},
        {"model": {"name": "unet", "options": {**SMALL, "dropout": 0.5, "deep_supervision": True}, "in_channels": 1}},
    ],
    ids=["accumulate 2", "accumulate 4", "fp16", "step", "exponential", "plateau", "parts", "dropout and auxiliary"],
)
def test_an_interruption_changes_nothing_for_any_settings(
    make_job: Callable[..., Fit], changes: dict[str, Any]
) -> None:
    """Stops: after a step of the second epoch, and at its end."""
    changes = {"epochs": 3, "batch_size": 1, **changes}  # six batches an epoch
    whole = make_job("whole", **changes)
    expected = _results(whole, fit(whole))
    for number, stop in enumerate((whole.steps_per_epoch + 2, whole.steps_per_epoch)):
        with pytest.raises(Interrupted):
            fit(make_job("cut", _stop_at(stop), init_seed=number, **changes))
    resumed = make_job("cut", init_seed=99, **changes)
    assert _results(resumed, fit(resumed)) == expected


def test_parts_that_are_computed_again_change_nothing_and_may_change_within_a_training(
    make_job: Callable[..., Fit],
) -> None:
    model = {"name": "unet", "options": {**SMALL, "dropout": 0.5}}
    whole = make_job("whole", model=model, ema_decay=0.9, epochs=3)
    expected = _results(whole, fit(whole))
    saving = make_job("saving", model=model, ema_decay=0.9, epochs=3, recompute=["first", "down.0", "head"])
    assert _results(saving, fit(saving)) == expected
    with pytest.raises(Interrupted):
        fit(make_job("cut", _stop_at(5), model=model, ema_decay=0.9, epochs=3, recompute=["down.1"]))
    resumed = make_job("cut", init_seed=9, model=model, ema_decay=0.9, epochs=3)
    assert _results(resumed, fit(resumed)) == expected


class Clock:
    """Moves by so many seconds each time it is asked; dies when it is asked for the given time, as by `kill -9`."""

    def __init__(self, seconds: float, last: int = 10_000) -> None:
        self.seconds, self.last, self.num_asked = seconds, last, 0

    def __call__(self) -> float:
        self.num_asked += 1
        if self.num_asked > self.last:
            raise _KilledError
        return self.num_asked * self.seconds


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("accumulate_batches", [1, 2])
@pytest.mark.parametrize("killed_at", [3, 5, 8, 9])
def test_a_kill_within_an_epoch_loses_the_steps_since_the_last_checkpoint_and_changes_nothing(
    make_job: Callable[..., Fit], killed_at: int, accumulate_batches: int
) -> None:
    changes = {"epochs": 2, "batch_size": 1, "ema_decay": 0.9, "accumulate_batches": accumulate_batches}
    whole = make_job("whole", **changes)  # six batches an epoch
    expected = _results(whole, fit(whole))
    # Asked after each step and after each checkpoint: every second step has one.
    clock = Clock(45, last=killed_at)
    with pytest.raises(_KilledError):
        fit(replace(make_job("cut", **changes, checkpoint_minutes=1.5), clock=clock))
    saved = read_checkpoint(whole.folder.parent / "cut" / CHECKPOINT).progress
    assert saved.batch % (2 * accumulate_batches) == 0
    assert (saved.epoch, saved.batch) > (0, 0)
    resumed = make_job("cut", init_seed=99, **changes)
    assert _results(resumed, fit(resumed)) == expected


@pytest.mark.parametrize(("minutes", "num_asked"), [(None, 0), (1000.0, STEPS_PER_EPOCH)])
def test_without_a_need_no_checkpoint_is_written_within_an_epoch(
    make_job: Callable[..., Fit], minutes: float | None, num_asked: int
) -> None:
    clock = Clock(45)
    job = replace(make_job("a", epochs=1, checkpoint_minutes=minutes), clock=clock)
    fit(job)
    assert clock.num_asked == 1 + num_asked  # when the epoch began, and after each step
    assert not (job.folder / PREVIOUS).exists()  # the only checkpoint is that of the epoch's end


@pytest.mark.parametrize("damaged", [[CHECKPOINT], [CHECKPOINT, PREVIOUS]], ids=["the last", "both"])
def test_a_damaged_checkpoint_costs_time_and_changes_nothing(
    make_job: Callable[..., Fit], damaged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"epochs": 4, "ema_decay": 0.9, "validate_every": 2}
    whole = make_job("whole", **changes)
    expected = _results(whole, fit(whole))
    with pytest.raises(Interrupted):
        fit(make_job("cut", _stop_at(13), **changes))  # after the first step of the last epoch
    for name in damaged:
        path = whole.folder.parent / "cut" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    resumed = make_job("cut", init_seed=0 if len(damaged) == 2 else 99, **changes)
    caplog.clear()
    assert _results(resumed, fit(resumed)) == expected
    assert [record.args[0] for record in caplog.records if record.levelname == "WARNING"][: len(damaged)] == [  # type: ignore[index]
        whole.folder.parent / "cut" / name for name in damaged
    ]


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


def test_a_training_that_goes_on_counts_the_hours_before(make_job: Callable[..., Fit]) -> None:
    first = make_job("a", _stop_at(4))  # at the end of the first epoch
    with pytest.raises(Interrupted):
        fit(first)
    before = read_checkpoint(first.folder / CHECKPOINT).progress.seconds
    resumed = make_job("a")
    fit(resumed)
    (metrics,) = [metrics for _, metrics in resumed.sink.metrics]  # type: ignore[attr-defined]
    assert metrics["device_hours"] * 3600 > before > 0


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
        return [0.3, 0.5, 0.5, 0.4][len(states) - 1], 1.0

    monkeypatch.setattr(loop, "validate", remember)
    job = make_job("a", epochs=4)
    progress = fit(job)
    assert (progress.best_epoch, progress.best_mean_iou) == (2, 0.5)  # the first of two equals
    for loaded, state in ((load_file(job.folder / BEST_WEIGHTS), states[1]), (job.module.state_dict(), states[3])):
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("mean_ious", "early_stopping", "num_epochs"),
    [
        ([0.1, 0.2, 0.2, 0.2, 0.9], {"patience": 2, "min_delta": 0.0}, 4),  # nothing better in epochs 3 and 4
        ([0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.9], {"patience": 2, "min_delta": 0.0}, 6),
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
    assert (job.folder / BEST_WEIGHTS).exists()


def test_early_stopping_waits_for_the_first_validation(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", epochs=4, validate_every=3, early_stopping={"patience": 1, "min_delta": 0.0})
    progress = fit(job)
    assert progress.best_epoch > 0
    assert (job.folder / BEST_WEIGHTS).exists()


def test_a_validation_without_a_labelled_pixel_is_told_at_once_and_writes_no_weights(
    make_job: Callable[..., Fit], make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    """There is no mIoU then, so no epoch would be the best: the weights would be an empty file."""
    samples = [make_sample(f"v_{i}", "val") for i in range(2)]
    void = [replace(sample, mask=np.full_like(sample.mask, IGNORE_INDEX)) for sample in samples]
    job = replace(make_job("a"), val_store=make_store(void, "void"))
    with pytest.raises(TrainingError, match=r"(?s)epoch 1:.*2 validation samples.*preprocess\.split\.val"):
        fit(job)
    assert not (job.folder / BEST_WEIGHTS).exists()


def test_a_loss_that_is_no_number_ends_the_training(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", learning_rate=1e30, optimizer="sgd", accumulate_batches=2)
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+ .*train\.learning_rate"):
        fit(job)
    assert not (job.folder / BEST_WEIGHTS).exists()


def test_only_every_few_epochs_and_the_last_are_validated(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", epochs=5, validate_every=2)
    progress = fit(job)
    assert [row["epoch"] for row in progress.history if "val_mean_iou" in row] == [2, 4, 5]
    assert sorted({epoch for epoch, *_ in job.sink.predictions}) == [2, 4, 5]  # type: ignore[attr-defined]


def test_overlays_are_drawn_at_about_eight_epochs(
    make_job: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    _script_evaluations(monkeypatch, [0.1] * 33)
    job = make_job("a", epochs=33, num_overlays=1, batch_size=6)
    fit(job)
    assert [epoch for epoch, *_ in job.sink.predictions] == [4, 8, 12, 16, 20, 24, 28, 32, 33]  # type: ignore[attr-defined]


def test_the_average_is_what_is_validated_and_kept(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", ema_decay=0.9, epochs=1)
    fit(job)
    best, trained = load_file(job.folder / BEST_WEIGHTS), job.module.state_dict()
    for name in ("head.weight", "first.1.running_mean"):  # the statistics of the norms are averaged too
        assert not torch.equal(best[name], trained[name]), name
    average = read_checkpoint(job.folder / CHECKPOINT).states["average"]
    assert all(torch.equal(best[name], average[f"module.{name}"]) for name in best)


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
    for name, value in {"MAX_WHOLE_PX": 1, "ALIGNMENT_PX": 4}.items():
        monkeypatch.setattr(tiles, name, value)
    monkeypatch.setattr(predictor, "LARGE_WINDOW_PX", 16)
    job = make_job("a", epochs=1)
    sizes = []

    def remember(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if not module.training:
            sizes.append(tuple(inputs[0].shape))

    job.module.register_forward_pre_hook(remember)
    fit(job)
    assert isinstance(job.sink, Sink)
    assert [shape for *_, shape in job.sink.predictions] == [(32, 32)] * 2
    assert set(sizes) == {(1, 3, 16, 16)}


# Schedules that follow the validation


def _plateau(patience: int, warmup_share: float = 0.0) -> dict[str, Any]:
    return {"name": "plateau", "factor": 0.5, "patience": patience, "warmup_share": warmup_share}


PLATEAUS = [
    # Epochs 2 and 3 are no better than 1, 5 and 6 no better than 4.
    ([0.3, 0.2, 0.3, 0.4, 0.4, 0.1, 0.5], {"schedule": _plateau(2)}, [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
    # Validated after epochs 2, 4, 6 and 8; two of these without a rise are at least three epochs.
    ([0.3, 0.2, 0.2, 0.2], {"schedule": _plateau(3), "validate_every": 2, "epochs": 8}, [*[1] * 6, 0.5, 0.5]),
    # Nine steps of warm-up in three epochs of three: a rate that is lowered meanwhile goes on rising from there.
    (
        [0.3, 0.2, 0.4, 0.5],
        {"schedule": _plateau(1, 0.75)},
        [0.01 + 0.99 / 3, 0.01 + 0.99 * 2 / 3, 0.5, 0.5],
    ),
]


@pytest.mark.parametrize("stops", [[], [8], [9], [4, 4, 2]], ids=str)
@pytest.mark.parametrize(("mean_ious", "changes", "rates"), PLATEAUS, ids=["plain", "seldom", "warm-up"])
def test_a_plateau_lowers_the_rate_however_often_the_training_is_interrupted(
    make_job: Callable[..., Fit],
    monkeypatch: pytest.MonkeyPatch,
    mean_ious: list[float],
    changes: dict[str, Any],
    rates: list[float],
    stops: list[int],
) -> None:
    """Four questions an epoch: after each of three steps, and at its end."""
    _script_evaluations(monkeypatch, mean_ious)
    changes = {"epochs": len(rates), "learning_rate": 0.1, **changes}
    for stop in stops:
        with pytest.raises(Interrupted):
            fit(make_job("a", _stop_at(stop), **changes))
    history = fit(make_job("a", **changes)).history
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1 * rate for rate in rates])


# Parts that stay


def _state(job: Fit) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in job.module.state_dict().items()}


def _changed_parts(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name.partition(".")[0] for name in before if not torch.equal(after[name], before[name])}


@pytest.mark.parametrize("ema_decay", [None, 0.9], ids=["plain", "average"])
def test_frozen_parts_stay_as_they_are_and_so_do_their_statistics(
    make_job: Callable[..., Fit], ema_decay: float | None
) -> None:
    job = make_job("a", freeze=["first", "down"], ema_decay=ema_decay, epochs=3)
    for name, tensor in job.module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(1001)  # 1001 * 0.9 + 1001 * 0.1 is 1000.9999 in 32 bits
    before = _state(job)
    fit(job)
    assert _changed_parts(before, job.module.state_dict()) == {"up", "merge", "head"}
    assert _changed_parts(before, load_file(job.folder / BEST_WEIGHTS)) == {"up", "merge", "head"}
    states = read_checkpoint(job.folder / CHECKPOINT).states
    prefix = "module." if ema_decay else ""
    last = {name: states["average" if ema_decay else "module"][prefix + name] for name in before}
    assert _changed_parts(before, last) == {"up", "merge", "head"}


def test_a_frozen_batch_norm_stays_and_the_rest_is_trained(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", freeze_batch_norm=["first", "down", "merge"])
    before = _state(job)
    fit(job)
    changed = {name for name, tensor in job.module.state_dict().items() if not torch.equal(tensor, before[name])}
    norms = {name for name, part in job.module.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    assert changed == {name for name in before if name.rpartition(".")[0] not in norms}


def test_a_wrong_part_is_named_before_the_first_step(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", freeze=["encoder"])
    with pytest.raises(ConfigError, match=r"train.freeze: the network has no part 'encoder'; "):
        fit(job)
    assert list(job.folder.iterdir()) == []


def test_a_factor_of_the_rate_is_a_factor_of_the_step(make_job: Callable[..., Fit]) -> None:
    """One plain step: where the rate is a quarter the weights go a quarter of the way."""
    steps = []
    for factors in ({}, {"down": 0.25, "down.1": 2.0}):
        changes = {"epochs": 1, "batch_size": 6, "learning_rate": 0.1, "learning_rate_factors": factors}
        job = make_job(f"a{len(steps)}", **PLAIN_STEPS, **changes)
        before = _state(job)
        fit(job)
        steps.append({name: tensor - before[name] for name, tensor in job.module.state_dict().items()})
    for name, step in steps[0].items():
        factor = 2.0 if name.startswith("down.1.") else 0.25 if name.startswith("down.") else 1.0
        torch.testing.assert_close(steps[1][name], factor * step, rtol=1e-4, atol=1e-6)


# Steps of several batches


def _trained_weights(job: Fit, batch_size: int, accumulate_batches: int) -> dict[str, torch.Tensor]:
    settings = job.settings.model_copy(update={"accumulate_batches": accumulate_batches, "batch_size": batch_size})
    loader = TrainLoader(job.train_loader.store, settings.augment, batch_size, settings.seed)
    fit(replace(job, settings=settings, train_loader=loader))
    return job.module.state_dict()


def test_accumulated_gradients_are_those_of_one_large_batch(make_job: Callable[..., Fit]) -> None:
    """The samples' void is unevenly spread; test_step.py tries each loss."""
    weights = {
        (size, number): _trained_weights(make_job(f"{size} x {number}", **PLAIN_STEPS, learning_rate=0.1), size, number)
        for size, number in ((6, 1), (3, 2), (2, 3), (1, 6), (1, 100), (2, 1))
    }
    large = weights.pop((6, 1))
    small_steps = weights.pop((2, 1))
    assert any((small_steps[name] - tensor).abs().max() > 1e-3 for name, tensor in large.items())
    for accumulated in weights.values():
        for name, tensor in large.items():
            torch.testing.assert_close(accumulated[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_last_step_of_an_epoch_takes_the_mean_of_what_is_left(make_job: Callable[..., Fit]) -> None:
    """Against a loop that is written out: of three batches the first two make a step, and the third one alone."""
    changes = {"learning_rate": 0.01, "accumulate_batches": 2, "epochs": 2}
    job, reference = make_job("a", **PLAIN_STEPS, **changes), make_job("b", **PLAIN_STEPS, **changes)
    assert job.steps_per_epoch == 2
    assert [len(step) for step in job.steps(epoch=0, first_batch=0)] == [2, 1]
    assert [len(step) for step in job.steps(epoch=0, first_batch=2)] == [1]
    fit(job)
    module = reference.module.train()
    for epoch in range(2):
        batches = [(torch.from_numpy(i), torch.from_numpy(m)) for i, m in reference.train_loader.batches(epoch)]
        for step in (batches[:2], batches[2:]):
            images, masks = (torch.cat(parts) for parts in zip(*step, strict=True))
            loss = F.cross_entropy(module(normalize(images)), masks.long(), ignore_index=IGNORE_INDEX)
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                    parameter -= 0.01 * gradient
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(job.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_stop_within_a_step_waits_for_its_last_batch(make_job: Callable[..., Fit]) -> None:
    job = make_job("a", _stop_at(1), batch_size=1, accumulate_batches=4)
    with pytest.raises(Interrupted):
        fit(job)
    checkpoint = read_checkpoint(job.folder / CHECKPOINT)
    assert checkpoint.progress.batch == 4
    assert checkpoint.states["schedule"]["last_epoch"] == 1


@pytest.mark.parametrize(("limit", "is_shortened"), [(1e-3, True), (1e6, False)])
def test_long_gradients_are_shortened(make_job: Callable[..., Fit], limit: float, is_shortened: bool) -> None:
    """One plain step of rate 1 is as long as its gradient."""
    lengths = []
    for number, changes in enumerate(({}, {"clip_gradient_norm": limit})):
        job = make_job(f"a{number}", **PLAIN_STEPS, epochs=1, batch_size=6, learning_rate=1.0, **changes)
        before = _state(job)
        fit(job)
        steps = [(tensor - before[name]).flatten() for name, tensor in job.module.state_dict().items()]
        lengths.append(float(torch.cat(steps).norm()))
    assert lengths[1] == pytest.approx(limit if is_shortened else lengths[0], rel=1e-2)


# Networks with more than one output, and grey ones


@pytest.mark.parametrize("auxiliary_weight", [0.0, 0.4])
def test_auxiliary_heads_learn_by_their_weight(make_job: Callable[..., Fit], auxiliary_weight: float) -> None:
    model = {"name": "unet", "options": {**SMALL, "deep_supervision": True}}
    job = make_job("a", model=model, auxiliary_weight=auxiliary_weight, weight_decay=0.0, epochs=1)
    before = _state(job)
    assert any(name.startswith("auxiliary.") for name in before)
    progress = fit(job)
    assert ("auxiliary" in _changed_parts(before, job.module.state_dict())) is (auxiliary_weight > 0)
    assert 0 < progress.history[0]["train_mean_iou"] < 1  # of the main output
    assert load_file(job.folder / BEST_WEIGHTS).keys() == before.keys()


def test_the_training_loss_is_that_of_all_outputs(make_job: Callable[..., Fit]) -> None:
    model = {"name": "unet", "options": {**SMALL, "deep_supervision": True}}
    losses = [
        fit(make_job(str(weight), model=model, auxiliary_weight=weight, epochs=1, learning_rate=1e-12)).history[0]
        for weight in (0.0, 1.0)
    ]
    assert losses[1]["train_loss"] > 1.5 * losses[0]["train_loss"]
    assert losses[1]["val_loss"] == pytest.approx(losses[0]["val_loss"], rel=1e-3)


def test_the_average_of_a_grey_network_sees_grey_too(make_job: Callable[..., Fit], store: Store) -> None:
    job = make_job("a", model={"name": "unet", "options": SMALL, "in_channels": 1}, ema_decay=0.9, epochs=3)
    assert job.module.state_dict()["first.0.weight"].shape[1] == 1
    progress = fit(job)
    other = make_job("b", model={"name": "unet", "options": SMALL, "in_channels": 1}).module
    other.load_state_dict(load_file(job.folder / BEST_WEIGHTS))
    assert evaluate(Predictor(other), store.of_split("val"), job.objective.terms).mean_iou == progress.best_mean_iou


def _short_of_memory(job: Fit, limit: int, first_call: int = 0) -> Fit:
    """The job on a device that takes at most `limit` samples at once, from a call of the network on."""
    calls = iter(range(1000))

    def check(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if job.module.training and next(calls) >= first_call and len(args[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    job.module.register_forward_pre_hook(check)
    return job


def test_micro_batches_have_the_gradients_of_the_whole_batch(make_job: Callable[..., Fit]) -> None:
    plain = {**PLAIN_STEPS, "batch_size": 3, "epochs": 2}
    whole, divided = make_job("whole", **plain), make_job("divided", **plain, micro_batch=2)
    histories = [fit(job).history for job in (whole, divided)]
    for row, expected in zip(histories[1], histories[0], strict=True):
        assert row == pytest.approx(expected, abs=1e-5)
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(divided.module.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_border_weights_are_drawn_ahead_from_what_the_network_sees(make_job: Callable[..., Fit]) -> None:
    terms = [{"name": "cross_entropy"}, {"name": "border_cross_entropy", "options": {"sigma_px": 2.0}}]
    job = make_job("a", loss=terms, epochs=2, half_resolution_share=0.5)
    for epoch, size in ((0, 2), (1, 1)):
        for batches in job.steps(epoch, first_batch=0):
            for batch in batches:
                masks = halve_masks(batch.masks_NHW) if size == 2 else batch.masks_NHW
                nothing, drawn = batch.maps
                assert nothing is None and drawn is not None
                assert torch.equal(drawn, measure_closeness(masks, range(3), 2.0))
                assert drawn.any()
    plain = make_job("b")
    assert not plain.objective.draws_ahead
    assert next(plain.steps(0, first_batch=0))[0].maps == ()


def test_short_memory_does_not_end_a_training(make_job: Callable[..., Fit], caplog: pytest.LogCaptureFixture) -> None:
    plain = {**PLAIN_STEPS, "batch_size": 3, "epochs": 2, "micro_batch": 3}
    whole = make_job("whole", **plain)
    expected = fit(whole).history
    short = _short_of_memory(make_job("short", **plain), limit=1, first_call=1)  # in the second step
    progress = fit(short)
    assert "too short for 3 samples at once; from here on 2" in caplog.text
    assert "too short for 2 samples at once; from here on 1" in caplog.text
    assert progress.halved_to(short.settings) == progress.micro_batch == 1
    assert fit(make_job("again", **plain)).halved_to(short.settings) is None
    for row, wanted in zip(progress.history, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)  # the training mIoU too: no pixel is counted twice
    assert read_checkpoint(short.folder / CHECKPOINT).progress.micro_batch == 1, "a training that goes on knows"


@pytest.mark.parametrize(
    ("micro_batch", "limit", "facts"),
    [(None, 1, ["2 samples", "train.micro_batch: 1, or auto"]), (2, 0, ["1 samples", "train.recompute"])],
)
def test_short_memory_that_nothing_helps_says_what_to_write(
    make_job: Callable[..., Fit], micro_batch: int | None, limit: int, facts: list[str]
) -> None:
    with pytest.raises(TrainingError) as caught:
        fit(_short_of_memory(make_job("a", micro_batch=micro_batch), limit))
    assert [fact for fact in facts if fact not in str(caught.value)] == []
