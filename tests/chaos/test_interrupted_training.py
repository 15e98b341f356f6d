"""A training that is stopped or killed at any time goes on and ends as if nothing had happened."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from facts import missing
from integration.project import EXPERIMENT, Project
from mlflow.entities import ViewType

from segpipe.training.checkpoint import read_checkpoint

NUM_EPOCHS = 40
EPOCHS = list(range(1, NUM_EPOCHS + 1))
WEIGHTS = "build/model/weights.safetensors"
PATIENCE_SECONDS = 180  # of a machine that others use too


def wait_until(is_true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def journals(project: Project) -> list[Path]:
    return list((project.root / "checkpoints").glob("*/journal.jsonl"))


def epochs_reported(project: Project) -> int:
    """Finished epochs of the training under way."""
    newest = max(journals(project), key=lambda path: path.stat().st_mtime, default=None)
    return 0 if newest is None else newest.read_text(encoding="utf-8").count('"metrics"')


def processes_below(project: Project) -> list[int]:
    """Stage processes that work in the project's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            is_stage = b"segpipe.stages." in (entry / "cmdline").read_bytes()
            if is_stage and (entry / "cwd").resolve() == project.root.resolve():
                found.append(int(entry.name))
    return found


def prepare(project: Project) -> None:
    """Asks for a longer training, with no journal of an older one."""
    project.call("rm", "-rf", "checkpoints")
    project.change_params("train.epochs", NUM_EPOCHS)
    project.change_params("train.validate_every", 5)
    project.change_params("train.ema_decay", 0.9)


@pytest.fixture(scope="session")
def uninterrupted_weights(original: Project, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the training that nothing disturbed."""
    project = original.copy_to(tmp_path_factory.mktemp("uninterrupted") / "project")
    prepare(project)
    project.stage("train")
    return (project.root / WEIGHTS).read_bytes()


@pytest.fixture
def training(finished: Project) -> Iterator["subprocess.Popen[str]"]:
    """A training in `finished` that has finished at least three epochs and is not at its end."""
    prepare(finished)
    with finished.start("python", "-m", "segpipe.stages.train") as process:
        wait_until(lambda: epochs_reported(finished) >= 3, process)
        yield process
        process.kill()


def assert_one_whole_run(project: Project) -> None:
    client = project.client()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], f"params.`train.epochs` = '{NUM_EPOCHS}'", ViewType.ALL)
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    for metric in ("epochs/train_loss", "epochs/learning_rate", "epochs/images_per_second"):
        history = client.get_metric_history(runs[0].info.run_id, metric)
        assert sorted(entry.step for entry in history) == EPOCHS, metric


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_training_that_is_asked_to_stop_writes_a_checkpoint_and_goes_on(
    finished: Project, training: "subprocess.Popen[str]", uninterrupted_weights: bytes, signum: int, code: int
) -> None:
    before = finished.files()
    training.send_signal(signum)
    _, said = training.communicate(timeout=PATIENCE_SECONDS)
    assert training.returncode == code, said
    assert "Traceback" not in said
    assert list((finished.root / "checkpoints").glob("*/checkpoint.pt"))
    assert finished.files() == before

    assert "going on from epoch" in finished.stage("train")
    assert (finished.root / WEIGHTS).read_bytes() == uninterrupted_weights
    assert_one_whole_run(finished)


@pytest.mark.slow
def test_ctrl_c_reaches_dvc_and_the_training_and_costs_no_step(finished: Project, uninterrupted_weights: bytes) -> None:
    prepare(finished)
    # A terminal sends it to all of the group in the foreground.
    with finished.start("dvc", "repro", "train", start_new_session=True) as dvc:
        wait_until(lambda: epochs_reported(finished) >= 3, dvc)
        os.killpg(dvc.pid, signal.SIGINT)
        _, said = dvc.communicate(timeout=PATIENCE_SECONDS)
    assert dvc.returncode != 0
    assert "exited with 130" in said
    assert "Traceback" not in said
    num_epochs = epochs_reported(finished)
    (checkpoint,) = (finished.root / "checkpoints").glob("*/checkpoint.pt")
    saved = read_checkpoint(checkpoint).progress
    assert (saved.epoch, saved.batch > 0) in {(num_epochs, True), (num_epochs, False)}
    finished.call("dvc", "repro", "train")
    assert (finished.root / WEIGHTS).read_bytes() == uninterrupted_weights
    assert_one_whole_run(finished)


@pytest.mark.slow
def test_a_training_that_dvc_has_not_recorded_ends_at_once_with_the_same_weights(
    finished: Project, uninterrupted_weights: bytes
) -> None:
    prepare(finished)
    finished.stage("train")  # DVC would have been killed before it wrote dvc.lock
    assert list((finished.root / "checkpoints").glob("*/checkpoint.pt"))

    said = finished.run("dvc", "repro").stderr
    assert not missing(said, "going", f"epoch {NUM_EPOCHS + 1}")
    assert f"/{NUM_EPOCHS}  loss" not in said  # no epoch is trained
    assert (finished.root / WEIGHTS).read_bytes() == uninterrupted_weights
    assert_one_whole_run(finished)
    assert not list((finished.root / "checkpoints").glob("*/checkpoint*"))  # recorded, and no longer needed

    finished.call("dvc", "repro", "--force", "--single-item", "train")  # now it is asked for again
    assert epochs_reported(finished) == NUM_EPOCHS
    assert (finished.root / WEIGHTS).read_bytes() == uninterrupted_weights


@pytest.mark.slow
def test_a_flipped_byte_in_the_checkpoint_changes_no_weight(
    finished: Project, training: "subprocess.Popen[str]", uninterrupted_weights: bytes
) -> None:
    training.kill()
    training.communicate(timeout=PATIENCE_SECONDS)
    (checkpoint,) = (finished.root / "checkpoints").glob("*/checkpoint.pt")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 3] ^= 16
    checkpoint.write_bytes(content)
    (journal,) = journals(finished)
    journal.write_bytes(b"\xff" + journal.read_bytes()[1:])  # the line that began the journal

    said = finished.stage("train")
    assert "checkpoint.pt is damaged" in said
    assert "going on from epoch" in said
    assert (finished.root / WEIGHTS).read_bytes() == uninterrupted_weights
    assert_one_whole_run(finished)


def test_a_training_that_is_killed_goes_on_from_its_last_epoch(
    finished: Project, training: "subprocess.Popen[str]", uninterrupted_weights: bytes
) -> None:
    training.kill()
    training.communicate(timeout=PATIENCE_SECONDS)
    (journal,) = journals(finished)
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"epoch": 4, "tim')  # the kill came in the middle of a line

    assert "going on from epoch" in finished.stage("train")
    assert (finished.root / WEIGHTS).read_bytes() == uninterrupted_weights
    assert_one_whole_run(finished)
    assert not list((finished.root / "build").glob(".*.part"))


def test_a_stage_whose_dvc_is_killed_in_its_first_instant_does_not_train_on(finished: Project) -> None:
    prepare(finished)
    for seconds in (0, 0.02, 0.2):  # the imports take seconds
        with finished.start("dvc", "repro", "train") as dvc:
            wait_until(lambda: bool(processes_below(finished)), dvc)
            time.sleep(seconds)
            dvc.kill()
            dvc.wait()
            deadline = time.monotonic() + 10
            while processes_below(finished) and time.monotonic() < deadline:
                time.sleep(0.01)
            left = processes_below(finished)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert left == []
    assert not journals(finished)


def test_a_second_training_does_not_start_beside_the_first(
    finished: Project, training: "subprocess.Popen[str]"
) -> None:
    training.send_signal(signal.SIGSTOP)  # or it would be done before the second has started
    message = finished.refused("train")
    assert message.startswith("build/model is being written by another process")


@pytest.mark.parametrize("shell", ["/bin/sh", pytest.param("/bin/bash", marks=pytest.mark.slow)])
def test_a_stage_dies_with_dvc(finished: Project, shell: str) -> None:
    # DVC runs a stage by the user's shell; some shells replace themselves by the program, others stay as its parent.
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    prepare(finished)
    with Project(finished.root, {"SHELL": shell}).start("dvc", "repro", "train") as dvc:
        wait_until(lambda: epochs_reported(finished) >= 2, dvc)
        assert processes_below(finished)
        os.kill(dvc.pid, signal.SIGKILL)
        dvc.wait()
        deadline = time.monotonic() + 10
        while processes_below(finished) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = processes_below(finished)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert left == []
    assert epochs_reported(finished) < NUM_EPOCHS  # it was ended, and did not train on to its end
    assert list((finished.root / "checkpoints").glob("*/checkpoint.pt"))
    # DVC's own lock of the killed process is no obstacle, and the training goes on.
    finished.call("dvc", "repro", "train")
    assert_one_whole_run(finished)


@pytest.mark.parametrize(
    ("pattern", "stage"),
    [("shards/*.bin", "train"), ("shards/*.bin", "evaluate"), ("manifest.parquet", "class_weights")],
)
def test_a_flipped_byte_in_the_store_is_refused(finished: Project, pattern: str, stage: str) -> None:
    path = next((finished.root / "build/dataset").glob(pattern))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # it may be a link into the cache
    path.write_bytes(content)
    before = finished.files()
    message = finished.refused(stage)
    assert path.name in message
    assert "changed since preprocess wrote it" in message
    assert finished.files() == before
