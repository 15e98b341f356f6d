"""What `make down` tells of what it has stopped, found on real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.stopped import NAME, RunningStage, find_services, find_stages

NAMES = ("serve.1", "mlflow.1", "prefect.1", "control.1", "gpu.1", "gpu.2")
SLEEP = "import time; print(flush=True); time.sleep(600)"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[psutil.Process]]:
    """As honcho starts them: three servers, three workers, and below one of them DVC's shell with its stage."""
    stages = tmp_path / "segpipe/stages"
    stages.mkdir(parents=True)
    for package in (stages, stages.parent):
        (package / "__init__.py").touch()
    for name in ("train", "rank"):
        (stages / f"{name}.py").write_text(SLEEP, encoding="utf-8")
    commands = [
        *(([sys.executable, "-c", SLEEP], name) for name in NAMES),
        ([sys.executable, "-m", "segpipe.stages.train"], "gpu.2"),
        ([sys.executable, "-m", "segpipe.stages.rank"], "gpu.2"),  # of the same training
        (["/bin/sh", "-c", "echo; read never; python -m segpipe.stages.train"], "gpu.2"),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    started = [subprocess.Popen(command, cwd=tmp_path, env={NAME: name}, **pipes) for command, name in commands]
    try:
        for process in started:
            process.stdout.readline()
        yield [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_services_are_named_as_their_user_calls_them(processes: list[psutil.Process]) -> None:
    assert find_services(processes) == ["Prefect", "MLflow", "segpipe serve", "worker control", "2 workers gpu"]
    assert find_services([]) == []


def test_a_stage_is_found_with_its_clone(processes: list[psutil.Process], tmp_path: Path) -> None:
    assert find_stages(processes) == [RunningStage("train", tmp_path)]


def test_the_message_says_whether_a_training_wrote_its_checkpoint(tmp_path: Path) -> None:
    stage = RunningStage("train", tmp_path)
    assert "before its first checkpoint" in stage.describe_end(time.time())
    folder = tmp_path / "checkpoints/signature"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"")
    written = (folder / "checkpoint.pt").stat().st_mtime
    assert "wrote its checkpoint" in stage.describe_end(written - 1)
    assert "its last" in stage.describe_end(written + 1)
    assert "runs it again" in RunningStage("preprocess", tmp_path).describe_end(written)
