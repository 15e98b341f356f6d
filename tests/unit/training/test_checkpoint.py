"""A checkpoint brings back progress, states and the random numbers; a wrong byte in it is never used."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ConstantLR

from segpipe.config.train import Train
from segpipe.training.checkpoint import (
    CHECKPOINT,
    DAMAGED,
    PREVIOUS,
    CheckpointWriter,
    load_checkpoint,
    read_checkpoint,
)
from segpipe.training.state import BestWeights, Progress, TrainState
from segpipe.training.step import take_step

NOBODY = 65534


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _state(module: nn.Module | None = None, **progress: int) -> TrainState:
    module = nn.Linear(2, 2) if module is None else module
    optimizer = optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    return TrainState(module, optimizer, ConstantLR(optimizer), progress=Progress(**progress))


def _save(folder: Path, state: TrainState) -> None:
    with CheckpointWriter(folder) as checkpoints:
        checkpoints.save(state)


def _load(folder: Path, state: TrainState | None = None) -> Progress:
    state = _state() if state is None else state
    load_checkpoint(folder, state)
    return state.progress


def _weight(state: TrainState) -> torch.Tensor:
    assert isinstance(state.module.weight, torch.Tensor)
    return state.module.weight.detach().clone()


def test_without_a_checkpoint_it_is_a_beginning(tmp_path: Path) -> None:
    state = _state()
    before = _weight(state)
    load_checkpoint(tmp_path, state)
    assert state.progress == Progress()
    assert torch.equal(_weight(state), before)


def test_round_trip(tmp_path: Path, make_train_settings: Callable[..., Train]) -> None:
    settings = make_train_settings(schedule={"name": "plateau", "factor": 0.5, "patience": 1}, ema_decay=0.9)
    saved, loaded = (TrainState.begin(nn.Linear(2, 2), settings, steps_per_epoch=3) for _ in range(2))
    saved.progress = Progress(3, 5, 1.25, [[1, 2], [3, 4]], 0.5, 2, [{"epoch": 1, "train_loss": 0.75}])
    saved.best.keep(nn.Linear(3, 1))
    saved.module(torch.ones(1, 2)).sum().backward()
    take_step(saved, None)
    assert saved.plateau is not None and loaded.plateau is not None
    saved.plateau.step(0.7)
    torch.manual_seed(7)
    _save(tmp_path, saved)
    expected = torch.rand(3)
    torch.manual_seed(8)
    load_checkpoint(tmp_path, loaded)
    assert torch.equal(torch.rand(3), expected)
    assert loaded.progress == saved.progress
    assert loaded.parts().keys() == {"module", "best", "optimizer", "schedule", "plateau", "average"}
    for name, part in loaded.parts().items():
        assert repr(part.state_dict()) == repr(saved.parts()[name].state_dict()), name
    assert loaded.plateau.best == 0.7


def test_kept_weights_are_a_copy() -> None:
    network, best = nn.Linear(2, 2), BestWeights()
    best.keep(network)
    before = best.tensors["weight"].clone()
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(best.tensors["weight"], before)


# Damage


def _flip(place: float) -> Callable[[Path], None]:
    """Flips a bit at a share of the file's length."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return flip


def _cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)]) and None


def _take_another_trainings(path: Path) -> None:
    other = path.parent.with_name("other")
    other.mkdir()
    _save(other, _state(epoch=9))
    shutil.copyfile(other / CHECKPOINT, path)


def _write_as_torch_does(path: Path) -> None:
    torch.save({"progress": vars(Progress(epoch=9))}, path)


@pytest.mark.parametrize(
    "damage",
    [*(_flip(place) for place in (0, 0.01, 0.3, 0.5, 0.9, 1)), _cut(0), _cut(0.02), _cut(0.5), _cut(0.999)]
    + [_take_another_trainings, _write_as_torch_does],
)
def test_a_bad_checkpoint_is_named_set_aside_and_the_one_before_it_is_used(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "training"
    saved, loaded = _state(epoch=1), _state()
    _save(folder, saved)
    _save(folder, _state(epoch=2))
    damage(folder / CHECKPOINT)
    assert _load(folder, loaded).epoch == 1
    assert torch.equal(_weight(loaded), _weight(saved))
    assert str(folder / CHECKPOINT) in caplog.text
    assert _names(folder) == {PREVIOUS, DAMAGED}
    # What is written next does not take the place of the only good one.
    _save(folder, _state(epoch=3))
    _flip(0.5)(folder / CHECKPOINT)
    assert _load(folder, loaded).epoch == 1


def test_where_both_are_bad_it_is_a_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (1, 2):
        _save(tmp_path, _state(epoch=epoch))
    _flip(0.5)(tmp_path / CHECKPOINT)
    _cut(0)(tmp_path / PREVIOUS)
    assert _load(tmp_path) == Progress()
    assert "starts from the beginning" in caplog.text


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path: Path) -> None:
    _save(tmp_path, _state(epoch=1))
    (tmp_path / CHECKPOINT).replace(tmp_path / PREVIOUS)
    assert _load(tmp_path).epoch == 1


# The system refuses


@contextmanager
def _file_size_limit(num_bytes: int) -> Iterator[None]:
    """Python ignores the signal, so a longer write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """The permissions of files mean nothing to root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_full_disk_names_the_file_and_both_checkpoints_stay(tmp_path: Path) -> None:
    for epoch in (1, 2):
        _save(tmp_path, _state(nn.Linear(100, 100), epoch=epoch))
    with _file_size_limit(4096), pytest.raises(OSError, match=r"\[Errno 27\].*checkpoint\.pt"):
        _save(tmp_path, _state(nn.Linear(100, 100), epoch=3))
    assert [read_checkpoint(tmp_path / name).progress.epoch for name in (CHECKPOINT, PREVIOUS)] == [2, 1]
    assert _names(tmp_path) == {CHECKPOINT, PREVIOUS}


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder whose parents everybody may enter, other than pytest's."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "training"
        _save(folder, _state(epoch=1))
        yield folder
        folder.chmod(0o755)


def test_a_folder_without_permission_is_named_and_the_checkpoint_stays(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    with _as_nobody(), pytest.raises(PermissionError, match=r"training/checkpoint\.pt"):
        _save(shared_folder, _state(epoch=2))
    assert _load(shared_folder).epoch == 1


def test_a_checkpoint_that_may_not_be_read_is_no_damaged_one(shared_folder: Path) -> None:
    (shared_folder / CHECKPOINT).chmod(0)
    with _as_nobody(), pytest.raises(PermissionError, match=r"training/checkpoint\.pt"):
        _load(shared_folder)
    assert _names(shared_folder) == {CHECKPOINT}
