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
from torch import nn

from segpipe.training.checkpoint import (
    CHECKPOINT,
    DAMAGED,
    PREVIOUS,
    BestWeights,
    Progress,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

NOBODY = 65534


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_without_a_checkpoint_it_is_a_beginning(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    assert load_checkpoint(tmp_path, {"module": module}) == Progress()
    assert torch.equal(module.weight, before)


def test_round_trip(tmp_path: Path) -> None:
    progress = Progress(3, 5, 1.25, [[1, 2], [3, 4]], 0.5, 2, [{"epoch": 1, "train_loss": 0.75}])
    saved, loaded = nn.Linear(2, 2), nn.Linear(2, 2)
    best, loaded_best = BestWeights(), BestWeights()
    best.keep(nn.Linear(3, 1))
    torch.manual_seed(7)
    save_checkpoint(tmp_path, progress, {"module": saved, "best": best})
    expected = torch.rand(3)
    torch.manual_seed(8)
    assert load_checkpoint(tmp_path, {"module": loaded, "best": loaded_best}) == progress
    assert torch.equal(loaded.weight, saved.weight)
    assert torch.equal(torch.rand(3), expected)
    assert loaded_best.tensors.keys() == {"weight", "bias"}
    assert all(torch.equal(loaded_best.tensors[name], tensor) for name, tensor in best.tensors.items())


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
    save_checkpoint(other, Progress(epoch=9), {"module": nn.Linear(2, 2)})
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
    saved, loaded = nn.Linear(2, 2), nn.Linear(2, 2)
    save_checkpoint(folder, Progress(epoch=1), {"module": saved})
    save_checkpoint(folder, Progress(epoch=2), {"module": nn.Linear(2, 2)})
    damage(folder / CHECKPOINT)
    assert load_checkpoint(folder, {"module": loaded}).epoch == 1
    assert torch.equal(loaded.weight, saved.weight)
    assert str(folder / CHECKPOINT) in caplog.text
    assert _names(folder) == {PREVIOUS, DAMAGED}
    # What is written next does not take the place of the only good one.
    save_checkpoint(folder, Progress(epoch=3), {"module": saved})
    _flip(0.5)(folder / CHECKPOINT)
    assert load_checkpoint(folder, {"module": loaded}).epoch == 1


def test_where_both_are_bad_it_is_a_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, Progress(epoch=epoch), {})
    _flip(0.5)(tmp_path / CHECKPOINT)
    _cut(0)(tmp_path / PREVIOUS)
    assert load_checkpoint(tmp_path, {}) == Progress()
    assert "starts from the beginning" in caplog.text


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Progress(epoch=1), {})
    (tmp_path / CHECKPOINT).replace(tmp_path / PREVIOUS)
    assert load_checkpoint(tmp_path, {}).epoch == 1


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
        save_checkpoint(tmp_path, Progress(epoch=epoch), {"module": nn.Linear(100, 100)})
    with _file_size_limit(4096), pytest.raises(OSError, match=r"\[Errno 27\].*checkpoint\.pt"):
        save_checkpoint(tmp_path, Progress(epoch=3), {"module": nn.Linear(100, 100)})
    assert [read_checkpoint(tmp_path / name)["progress"]["epoch"] for name in (CHECKPOINT, PREVIOUS)] == [2, 1]
    assert _names(tmp_path) == {CHECKPOINT, PREVIOUS}


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder whose parents everybody may enter, other than pytest's."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "training"
        save_checkpoint(folder, Progress(epoch=1), {})
        yield folder
        folder.chmod(0o755)


def test_a_folder_without_permission_is_named_and_the_checkpoint_stays(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    with _as_nobody(), pytest.raises(PermissionError, match=r"training/checkpoint\.pt"):
        save_checkpoint(shared_folder, Progress(epoch=2), {})
    assert load_checkpoint(shared_folder, {}).epoch == 1


def test_a_checkpoint_that_may_not_be_read_is_no_damaged_one(shared_folder: Path) -> None:
    (shared_folder / CHECKPOINT).chmod(0)
    with _as_nobody(), pytest.raises(PermissionError, match=r"training/checkpoint\.pt"):
        load_checkpoint(shared_folder, {})
    assert _names(shared_folder) == {CHECKPOINT}
