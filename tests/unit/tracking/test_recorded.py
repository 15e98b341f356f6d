"""What DVC has recorded is forgotten, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn, optim
from torch.optim.lr_scheduler import ConstantLR

from segpipe.tracking.journal import JOURNAL, Journal
from segpipe.tracking.recorded import forget, forget_recorded, is_recorded
from segpipe.training.checkpoint import CHECKPOINT, DAMAGED, PREVIOUS, CheckpointWriter, load_checkpoint
from segpipe.training.state import Progress, TrainState

DIGEST = "0123456789abcdef0123456789abcdef.dir"


def _state(epoch: int) -> TrainState:
    module = nn.Linear(1, 1)
    optimizer = optim.SGD(module.parameters())
    return TrainState(module, optimizer, ConstantLR(optimizer), progress=Progress(epoch=epoch))


@pytest.fixture
def make_training(tmp_path: Path) -> Callable[..., Path]:
    """A training with all the checkpoints that one can have; its result is given when it is finished."""

    def make(name: str, result: str | None) -> Path:
        folder = tmp_path / "checkpoints" / name
        with CheckpointWriter(folder) as checkpoints:
            for epoch in (1, 2, 3):
                checkpoints.save(_state(epoch))
            checkpoints.wait()
            (folder / CHECKPOINT).write_bytes(b"")
            load_checkpoint(folder, _state(0))
            checkpoints.save(_state(4))
        assert {path.name for path in folder.iterdir()} == {CHECKPOINT, PREVIOUS, DAMAGED}
        journal = Journal(folder)
        journal.begin()
        if result:
            journal.finish(result)
        return folder

    return make


def _lock(root: Path, digest: str) -> None:
    text = f"schema: '2.0'\nstages:\n  train:\n    cmd: x\n    outs:\n    - path: build/model\n      md5: {digest}\n"
    (root / "dvc.lock").write_text(text, encoding="utf-8")


def test_a_training_is_recorded_when_it_is_finished_and_dvc_names_its_result(
    make_training: Callable[..., Path], tmp_path: Path
) -> None:
    finished, running = make_training("a", DIGEST), make_training("b", None)
    assert not is_recorded(finished, tmp_path)  # there is no dvc.lock
    _lock(tmp_path, DIGEST.replace("0", "f"))
    assert not is_recorded(finished, tmp_path)
    _lock(tmp_path, DIGEST)
    assert is_recorded(finished, tmp_path)
    assert not is_recorded(running, tmp_path)
    assert not is_recorded(tmp_path / "missing", tmp_path)


@pytest.mark.parametrize(
    "text", ["", "stages", "stages: []", "stages: {train: 3}", "stages: {train: {outs: [3]}}", "{"]
)
def test_a_dvc_lock_of_another_kind_records_nothing(
    make_training: Callable[..., Path], tmp_path: Path, text: str
) -> None:
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    assert not is_recorded(make_training("a", DIGEST), tmp_path)


def test_only_what_is_recorded_is_forgotten_and_its_journal_stays(
    make_training: Callable[..., Path], tmp_path: Path
) -> None:
    recorded, other, running = make_training("a", DIGEST), make_training("b", "f.dir"), make_training("c", None)
    _lock(tmp_path, DIGEST)
    before = {path: path.read_bytes() for folder in (other, running) for path in folder.iterdir()}
    forget_recorded(tmp_path / "checkpoints", tmp_path)
    assert {path.name for path in recorded.iterdir()} == {JOURNAL, "attempt"}
    assert {path: path.read_bytes() for folder in (other, running) for path in folder.iterdir()} == before


def test_forgetting_twice_is_no_error(make_training: Callable[..., Path]) -> None:
    folder = make_training("a", None)
    forget(folder)
    forget(folder)
