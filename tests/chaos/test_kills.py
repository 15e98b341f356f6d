"""DVC, or DVC with its stage, is killed at five moments of each stage: nothing runs on, and the next run is as if not.

`pytest -m slow -rP tests/chaos/test_kills.py` tells of each kill what it met.
"""

from __future__ import annotations

import os
import signal
import subprocess

import psutil
import pytest
from chaos import stale
from chaos import test_interrupted_training as training
from chaos.stale import OUTS, Undisturbed
from integration.project import STAGES, Project

MOMENTS_SECONDS = (0.1, 0.3, 0.7, 1.5, 5.0)

pytestmark = pytest.mark.slow
undisturbed = stale.undisturbed


@pytest.mark.parametrize("is_group", [False, True], ids=["dvc", "group"])
@pytest.mark.parametrize("seconds", MOMENTS_SECONDS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_leaves_no_orphan_and_no_lock_and_changes_no_result(
    finished: Project, undisturbed: Undisturbed, stage: str, seconds: float, is_group: bool
) -> None:
    expected = undisturbed.result(stage)
    stale.make_stale(finished, stage)
    with stale.started(finished, stage) as (dvc, process):
        stale.wait_until(lambda: not stale.is_alive(process), seconds)
        met = _kill(dvc, process, is_group)
        may_end = _is_at_its_end(finished, stage)
        faults = stale.end_left_processes(finished)
    if not may_end and (finished.root / OUTS[stage]).exists():
        faults.append("the stage went on to its end after DVC's death")
    faults += stale.run_again(finished, stage)
    faults += stale.find_differences(finished, expected)
    faults += stale.find_faults_in_mlflow(finished, stage)
    print(
        f"{stage}, {'group' if is_group else 'dvc alone'} killed {seconds:g} s after its start, {met}: {faults or 'ok'}"
    )
    assert faults == []


def _kill(dvc: subprocess.Popen[str], process: psutil.Process, is_group: bool) -> str:
    """Kills, and tells what was going on."""
    met = "in the stage" if stale.is_alive(process) else "after the stage" if dvc.poll() is None else "after all"
    if is_group:
        os.killpg(dvc.pid, signal.SIGKILL)
    else:
        os.kill(dvc.pid, signal.SIGKILL)
    dvc.wait()
    return met


def _is_at_its_end(project: Project, stage: str) -> bool:
    """Whether the stage had written its out when DVC was killed, or, for a training, has nothing more to train."""
    has_written = (project.root / OUTS[stage]).exists()
    return has_written or (stage == "train" and training.epochs_reported(project) >= training.NUM_EPOCHS - 1)
