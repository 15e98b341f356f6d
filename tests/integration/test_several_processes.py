"""A training that several processes share: equal to one process, and as safe from kills."""

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from daemons import find_free_ports
from integration.project import PARAMS, Project
from ruamel.yaml import YAML

from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.stages import train
from segpipe.training.processes.ranks import Ranks

WEIGHTS = "build/model/weights.safetensors"
PATIENCE_SECONDS = 180
GONE_SECONDS = 20.0


def prepare(project: Project, epochs: int) -> Project:
    """Six samples a batch: two, or two and one, for each of three and four processes."""
    project.call("rm", "-rf", "checkpoints")
    for key, value in {"num_threads": 1, "batch_size": 6, "epochs": epochs, "ema_decay": 0.9}.items():
        project.change_params(f"train.{key}", value)
    return project


def on(project: Project, number: int, **variables: object) -> Project:
    """The same project, whose user wants so many processes."""
    return Project(project.root, {"SEGPIPE_PROCESSES": str(number), **{key: str(v) for key, v in variables.items()}})


def history_of(project: Project) -> list[dict[str, float]]:
    rows = []
    for split in ("train", "val"):
        with (project.root / f"build/model/history/{split}.csv").open(encoding="utf-8") as file:
            rows += [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return rows


def ranks_of(project: Project) -> dict[int, psutil.Process]:
    found = {}
    for process in psutil.process_iter():
        try:
            if "segpipe.stages.rank" in process.cmdline() and Path(process.cwd()) == project.root.resolve():
                found[int(process.environ()["RANK"])] = process
        except (psutil.Error, KeyError):
            continue
    return found


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def has_reported(project: Project, epochs: int) -> bool:
    return any(
        path.read_text().count('"metrics"') >= epochs for path in project.root.glob("checkpoints/*/journal.jsonl")
    )


def wait_until_gone(project: Project) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (left := ranks_of(project)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left.values():
        process.kill()
    assert left == {}


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_train_as_one(finished: Project, number: int) -> None:
    # Parts of different sizes, as four processes have them: tests/unit/training/processes/test_ranks.py.
    prepare(finished, epochs=3)
    histories, sizes = [], []
    for one in (1, number):
        said = on(finished, one).stage("train")
        assert said.count("epoch 3/3") == 1, "only the first process reports"
        histories.append(history_of(finished))
        sizes.append(finished.json("build/model/model.json")["environment"].get("processes"))
    assert sizes == [None, str(number)]
    for expected, row in zip(*histories, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert row["mean_iou"] == pytest.approx(expected["mean_iou"], abs=1e-3)  # a pixel may be on an edge


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_next_start_goes_on_to_the_same_weights(finished: Project) -> None:
    # With three processes the order of a sum matters, with two it does not.
    shared = on(prepare(finished, epochs=12), 3)
    shared.stage("train")
    undisturbed = (finished.root / WEIGHTS).read_bytes()

    for victim in (2, 0):
        finished.call("rm", "-rf", "checkpoints")
        with shared.start("python", "-m", "segpipe.stages.train") as stage:
            wait_for(lambda: has_reported(finished, 3), stage)
            ranks_of(finished)[victim].kill()
            _, said = stage.communicate(timeout=PATIENCE_SECONDS)
        assert stage.returncode == 1, said
        assert "run it again to go on from the checkpoint" in said
        assert not has_reported(finished, 12), "it ended, and did not train on"
        wait_until_gone(finished)
        assert "going on from epoch" in shared.stage("train")
        assert (finished.root / WEIGHTS).read_bytes() == undisturbed


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_a_signal_to_the_stage_reaches_all_processes(finished: Project, signum: int, code: int) -> None:
    shared = on(prepare(finished, epochs=200), 2)
    with shared.start("python", "-m", "segpipe.stages.train") as stage:
        wait_for(lambda: has_reported(finished, 2), stage)
        os.kill(stage.pid, signum)
        stage.wait(timeout=PATIENCE_SECONDS)
        wait_until_gone(finished)
    assert stage.returncode == code
    assert not has_reported(finished, 200)
    assert list((finished.root / "checkpoints").glob("*/checkpoint.pt"))


@pytest.mark.slow
def test_two_machines_meet_and_train_as_two_processes(finished: Project) -> None:
    prepare(finished, epochs=2)
    on(finished, 2).stage("train")
    expected = (finished.root / WEIGHTS).read_bytes()
    finished.call("rm", "-rf", "checkpoints")

    (port,) = find_free_ports(1)
    both = {"SEGPIPE_MACHINES": 2, "SEGPIPE_MEETING": f"127.0.0.1:{port}"}
    with on(finished, 1, SEGPIPE_MACHINE=1, **both).start("segpipe", "join") as other:
        time.sleep(3)  # it waits for the one that leads
        said = on(finished, 1, SEGPIPE_MACHINE=0, **both).stage("train")
        _, said_by_other = other.communicate(timeout=PATIENCE_SECONDS)
    assert other.returncode == 0, said_by_other
    assert "epoch 2/2" in said
    assert (finished.root / WEIGHTS).read_bytes() == expected


@pytest.mark.parametrize(
    ("changes", "number", "fact"),
    [
        ({"batch_size": 2}, 3, "a batch of 2 samples is too small for 3 processes"),
        (
            {"batch_size": 5, "micro_batch": 1},
            2,
            "divides a part of 3 samples into more than the 2",
        ),
    ],
)
def test_what_processes_cannot_share_is_refused(changes: dict[str, int], number: int, fact: str) -> None:
    settings = Train.model_validate(YAML(typ="safe").load(PARAMS)["train"] | changes)
    with pytest.raises(ConfigError, match=fact):
        train._check_batch(settings, num_samples=6, ranks=Ranks(number=number))


def test_a_refusal_of_the_processes_is_that_of_the_stage(finished: Project) -> None:
    finished.change_params("train.batch_size", 1)
    message = on(finished, 2).refused("train")
    assert "a batch of 1 samples is too small for 2 processes" in message


def test_another_machine_does_not_run_the_stages(finished: Project) -> None:
    other = on(finished, 1, SEGPIPE_MACHINES=2, SEGPIPE_MACHINE=1, SEGPIPE_MEETING="127.0.0.1:1")
    assert "segpipe join" in other.refused("train")


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_waiting_for_another_machine_can_be_ended(finished: Project, signum: int) -> None:
    (port,) = find_free_ports(1)
    alone = on(finished, 1, SEGPIPE_MACHINES=2, SEGPIPE_MEETING=f"127.0.0.1:{port}")
    with alone.start("python", "-m", "segpipe.stages.train") as stage:
        assert stage.stderr is not None
        assert "waiting for 2 machines" in stage.stderr.readline()
        time.sleep(2)
        os.kill(stage.pid, signum)
        assert stage.wait(timeout=GONE_SECONDS) == -signum
