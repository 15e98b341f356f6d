"""A checkpoint in which a byte is wrong, or which is no checkpoint: named, not used, and the weights are the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos import stale
from chaos import test_interrupted_training as training
from chaos.stale import Undisturbed
from facts import missing
from integration.project import Project

NUM_FLIPS = 20
EPOCHS_BEFORE = 25
CHECKPOINT = "checkpoint.pt"

pytestmark = pytest.mark.slow
undisturbed = stale.undisturbed


def _flip(place: int) -> Callable[[bytes], bytes]:
    """Flips one bit at one of twenty places, from the first byte to the last."""

    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[place * (len(content) - 1) // (NUM_FLIPS - 1)] ^= 1 << place % 8
        return bytes(changed)

    return flip


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    **{f"byte at {place}/{NUM_FLIPS - 1}": _flip(place) for place in range(NUM_FLIPS)},
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "twice": lambda content: content * 2,
    "foreign": lambda content: b"\xff\xd8\xff\xe0" + bytes(5000),
}


@pytest.fixture(scope="module")
def stopped(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A training that was asked to stop after some epochs: only ever copied."""
    project = original.copy_to(tmp_path_factory.mktemp("stopped") / "project")
    stale.make_stale(project, "train")
    with stale.started(project, "train") as (_, process):
        assert stale.wait_until(lambda: training.epochs_reported(project) >= EPOCHS_BEFORE)
        process.send_signal(signal.SIGTERM)
    return project


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_checkpoint_is_named_and_changes_no_weight(
    stopped: Project, undisturbed: Undisturbed, tmp_path: Path, how: str
) -> None:
    project = stopped.copy_to(tmp_path / "project")
    (checkpoint,) = (project.root / "checkpoints").glob(f"*/{CHECKPOINT}")
    checkpoint.write_bytes(SPOILT[how](checkpoint.read_bytes()))
    done = project.run(*stale.repro("train"))
    said = done.stdout + done.stderr
    faults = [] if done.returncode == 0 else [f"dvc repro fails: {said[-400:]}"]
    if f"{CHECKPOINT} is damaged" not in said:
        faults.append("the damage is not told")
    faults += stale.find_differences(project, undisturbed.result("train"))
    faults += stale.find_faults_in_mlflow(project, "train") if done.returncode == 0 else []
    print(f"{how}: {faults or 'ok'}")
    assert faults == []


def test_where_both_checkpoints_are_damaged_the_training_begins_again(
    stopped: Project, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    project = stopped.copy_to(tmp_path / "project")
    for checkpoint in (project.root / "checkpoints").glob("*/checkpoint*.pt"):
        checkpoint.write_bytes(_flip(7)(checkpoint.read_bytes()))
    done = project.run(*stale.repro("train"))
    assert done.returncode == 0, done.stderr
    assert not missing(done.stderr, "training", "beginning")
    assert stale.find_differences(project, undisturbed.result("train")) == []
    assert stale.find_faults_in_mlflow(project, "train") == []
