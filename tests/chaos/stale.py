"""One stale stage of a finished project: run by DVC and disturbed, run again, and compared with an undisturbed run."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import pytest
from chaos import test_interrupted_training as training
from integration.project import EXPERIMENT, MODEL_NAME, Project
from mlflow.entities import ViewType

from segpipe.registry.ledger import read_ledger

PATIENCE_SECONDS = 300
GONE_SECONDS = 120
OUTS = {
    "download": "build/raw",
    "preprocess": "build/dataset",
    "class_weights": "build/class_weights.json",
    "train": "build/model",
    "evaluate": "build/evaluation",
    "register": "build/registration.json",
}
CHANGES = {
    "download": ("download.allow_http", True),
    "preprocess": ("preprocess.split.val", ["b"]),
    "class_weights": ("class_weights.cap", 10),
    "evaluate": ("evaluate.num_overlays", 2),
    "register": ("register.min_delta", 0.01),
}


def repro(stage: str) -> tuple[str, ...]:
    """What brings one stage up to date."""
    return ("dvc", "repro", "--single-item", stage)


def make_stale(project: Project, stage: str) -> None:
    """Changes one parameter of the stage. `register` meets a new MLflow store besides, which it has to make."""
    if stage == "train":
        training.prepare(project)
    else:
        project.change_params(*CHANGES[stage])
    if stage == "register":
        project.call("sh", "-c", "rm -rf mlflow.db* mlruns mlartifacts")


def result_of(project: Project) -> dict[str, bytes]:
    """All files of all outs, and what DVC has recorded of them; not what a killed process had begun to write."""
    outs = {name: content for name, content in project.files().items() if not name.endswith(".part")}
    return {**outs, "dvc.lock": (project.root / "dvc.lock").read_bytes()}


@dataclass(frozen=True, eq=False)
class Undisturbed:
    """What each stage makes when nothing disturbs it; each is run once.

    Args:
        original: a finished project.
        folder: for copies of it.
    """

    original: Project
    folder: Path

    @cache  # noqa: B019 - lives as long as the tests
    def result(self, stage: str) -> dict[str, bytes]:
        """The project's files after the stage."""
        project = self.original.copy_to(self.folder / stage)
        make_stale(project, stage)
        project.call(*repro(stage))
        return result_of(project)


@pytest.fixture(scope="session")
def undisturbed(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(original, tmp_path_factory.mktemp("undisturbed"))


@contextlib.contextmanager
def started(project: Project, stage: str) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """DVC and the process of its stage, as soon as there is one; what they say goes to a file next to the project."""
    with (project.root.parent / "said.txt").open("w", encoding="utf-8") as said:
        # To a file: an orphan would keep a pipe open.
        options = {"stdout": said, "stderr": subprocess.STDOUT, "start_new_session": True}
        with project.start(*repro(stage), **options) as dvc:
            yield dvc, _await_stage(dvc, stage, project)


def _await_stage(dvc: subprocess.Popen[str], stage: str, project: Project) -> psutil.Process:
    while dvc.poll() is None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(dvc.pid).children(recursive=True):
                # Not the shell before its `exec`, whose command is one long word.
                if f"segpipe.stages.{stage}" in child.cmdline():
                    return child
        time.sleep(0.005)
    raise AssertionError(f"dvc ended without {stage}: {said_by(project)}")


def said_by(project: Project) -> str:
    """What the disturbed run said."""
    return (project.root.parent / "said.txt").read_text(encoding="utf-8")


def wait_until(is_true: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def processes_in(project: Project) -> list[psutil.Process]:
    """All processes that work in the project's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(project.root) and is_alive(process):
                found.append(process)
    return found


def end_left_processes(project: Project) -> list[str]:
    """Waits for the end of all processes in the project; gives the commands of those that go on, and kills them."""
    wait_until(lambda: not processes_in(project), GONE_SECONDS)
    left = []
    for process in processes_in(project):
        with contextlib.suppress(psutil.Error):
            left.append(" ".join(process.cmdline()))
            process.kill()
    return [f"still runs: {command}" for command in left]


def run_again(project: Project, stage: str) -> list[str]:
    """Runs the stage as a user would, and the documented cure where DVC's own record is cut; gives what went wrong."""
    done = project.run(*repro(stage))
    if done.returncode != 0 and "rwlock" in done.stderr:
        print("DVC's record of running commands is cut; `segpipe unlock` removes it")
        project.run("segpipe", "unlock")
        done = project.run(*repro(stage))
    return [] if done.returncode == 0 else [f"does not work afterwards: {done.stderr[-600:]}"]


def find_differences(project: Project, expected: dict[str, bytes]) -> list[str]:
    """Compares the outs and DVC's record of them with those of the undisturbed run."""
    found = result_of(project)
    return [f"differs: {name}" for name in sorted(found.keys() | expected) if found.get(name) != expected.get(name)]


def find_faults_in_mlflow(project: Project, stage: str) -> list[str]:
    """One run of the training, whole; of a registration one version, one champion, one chain of entries."""
    if stage not in {"train", "register"}:
        return []
    client = project.client()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return ["MLflow has no experiment"]
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    faults = [f"MLflow has a run {run.info.status}" for run in runs if run.info.status != "FINISHED"]
    if stage == "train":
        try:
            training.assert_one_whole_run(project)
        except AssertionError as error:
            faults.append(f"not one whole run in MLflow: {error}")
        return faults
    if len(runs) != 1:
        faults.append(f"MLflow has {len(runs)} runs of one training")
    versions = [str(version.version) for version in client.search_model_versions(f"name = '{MODEL_NAME}'")]
    champion = client.get_registered_model(MODEL_NAME).aliases.get("champion")
    if (versions, str(champion)) != (["1"], "1"):
        faults.append(f"MLflow has versions {versions}, champion {champion}")
    return faults + list(read_ledger(client, MODEL_NAME).problems)
