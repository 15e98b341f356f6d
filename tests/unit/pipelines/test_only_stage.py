"""The shell that lets DVC run one stage only."""

import os
import subprocess
from pathlib import Path

import pytest

import pipelines
from pipelines.flows import REFUSED

SCRIPT = Path(pipelines.__file__).with_name("only_stage.sh")


def run_as_dvc(stage: str, allowed: str, command: str = 'echo "ran  $0"; exit 7') -> "subprocess.CompletedProcess[str]":
    """What DVC does: `$SHELL -c COMMAND`, with the stage's name in the environment."""
    env = {**os.environ, "DVC_STAGE": stage, "SEGPIPE_STAGE": allowed}
    return subprocess.run([SCRIPT, "-c", command], env=env, capture_output=True, text=True, timeout=20)


def test_the_allowed_stage_runs_with_its_own_exit_code() -> None:
    done = run_as_dvc("train", "train")
    assert done.returncode == 7
    assert done.stdout.startswith("ran  ")
    assert done.stderr == ""


@pytest.mark.parametrize("allowed", ["", "evaluate", "trai", "train2"])
def test_any_other_stage_is_refused_with_the_line_that_a_retraining_reads(allowed: str) -> None:
    done = run_as_dvc("train", allowed)
    assert done.returncode == 1
    assert done.stdout == ""
    refused = REFUSED.search(f"Running stage 'train':\n> exec python\n{done.stderr}ERROR: failed to reproduce 'train'")
    assert refused is not None
    assert refused.group(1) == "train"


def test_the_command_takes_the_shells_place(tmp_path: Path) -> None:
    """A shell in between would not pass on the signal by which a training learns that DVC was killed."""
    env = {**os.environ, "DVC_STAGE": "train", "SEGPIPE_STAGE": "train"}
    command = [SCRIPT, "-c", "exec sh -c 'echo $$'"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=20)[0].strip() == str(process.pid)
