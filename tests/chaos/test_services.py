"""Workers, flow runs and servers are killed in the middle of a training: no orphan, no second result, nothing twice.

The tests share the real services of one machine. Each asks for a training that nobody has done, by a seed of its own.
"""

import contextlib
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from integration.project import EXPERIMENT, MODEL_NAME, Project, add_pipelines, with_environment
from integration.services import FINAL, RETRAINING_SECONDS, Run, Services, processes_of, running_services
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from ruamel.yaml import YAML

NUM_EPOCHS = 300
SEEDS = itertools.count(100)
GONE_SECONDS = 30.0
CRASHED_SECONDS = 120.0
PATIENCE_SECONDS = 120.0
# The automation on silent runs waits 90 s, and looks every few seconds.
STILL_SECONDS = 120.0
GOING_ON = "going on from epoch"
OTHER_DEVICE = "7"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def services(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    project = add_pipelines(original.copy_to(tmp_path_factory.mktemp("chaos") / "project"))
    project.change_params("train.epochs", NUM_EPOCHS)
    with running_services(project) as services:
        yield services


@pytest.fixture
def seed(services: Services) -> int:
    """Makes train stale; and nothing may be left of the test before."""
    wait_until(lambda: not trainers(services.project.root), GONE_SECONDS, "the end of the last test's training")
    seed = next(SEEDS)
    services.project.change_params("train.seed", seed)
    return seed


def wait_until(is_true: Callable[[], bool], seconds: float, what: str) -> float:
    """Gives the seconds that it took."""
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() - started < seconds, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.05)
    took = time.monotonic() - started
    print(f"{what}: after {took:.1f} s")
    return took


def trainers(root: Path) -> set[int]:
    """Training processes that work in a folder or below it."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_trainer = process.cmdline()[1:3] == ["-m", "segpipe.stages.train"]
            if is_trainer and process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(root):
                found.add(process.pid)
    return found


def gpu_worker(services: Services) -> psutil.Process:
    (worker,) = processes_with(services.project, "worker", "start", "--type", "process", "--pool", "gpu")
    return worker


def processes_with(project: Project, *arguments: str) -> list[psutil.Process]:
    """The processes of the services that have these arguments in a row."""
    found = []
    for process in processes_of(project):
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if any(tuple(line[i : i + len(arguments)]) == arguments for i in range(len(line))):
                found.append(process)
    return found


def begin_training(services: Services, **parameters: object) -> Run:
    """Starts a retraining; gives it as soon as its training is some epochs old."""
    checkpoints = services.project.root / "checkpoints"
    before = set(checkpoints.glob("*/journal.jsonl"))
    run_id = services.start_retraining(**parameters)

    def is_under_way() -> bool:
        new = set(checkpoints.glob("*/journal.jsonl")) - before
        return any(journal.read_text(encoding="utf-8").count('"metrics"') >= 3 for journal in new)

    wait_until(is_under_way, PATIENCE_SECONDS, "a training under way")
    return services.find_run(run_id)


def trainings(run: Run) -> list[Run]:
    """The attempts at train of a retraining, in their order."""
    children = sorted((child["name"], child["id"]) for child in run.children())
    return [run.services.find_run(run_id) for name, run_id in children if name.startswith("train ")]


def assert_ended_early(project: Project, pids: set[int], seed: int) -> None:
    """The training processes were ended; none has come to its own end."""
    assert len(pids) == 1
    wait_until(lambda: not pids & trainers(project.root), GONE_SECONDS, "the end of the training")
    assert not is_trained(project, seed)


def is_trained(project: Project, seed: int) -> bool:
    model = project.root / "build/model/model.json"
    return model.exists() and json.loads(model.read_text(encoding="utf-8"))["params"]["train"]["seed"] == seed


def wait_for_state(run: Run, state: str, seconds: float) -> Run:
    wait_until(lambda: run.services.find_run(run.id).state in FINAL, seconds, f"the run's end, {state}")
    ended = run.services.find_run(run.id)
    assert ended.state == state, ended.message
    return ended


def find_mlflow_run(services: Services, seed: int) -> MlflowRun:
    """The only MLflow run of a training, which has finished and misses no epoch."""
    client = services.client()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], f"params.`train.seed` = '{seed}'", ViewType.ALL)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "epochs/train_loss")
    assert sorted(entry.step for entry in history) == list(range(1, NUM_EPOCHS + 1))
    return run


def assert_one_result(services: Services, seed: int) -> None:
    """One run, one version, and plain DVC agrees."""
    run = find_mlflow_run(services, seed)
    versions = services.client().search_model_versions(f"name = '{MODEL_NAME}'")
    assert [version.run_id for version in versions].count(run.info.run_id) == 1
    project = services.project
    assert is_trained(project, seed)
    assert json.loads(project.call("dvc", "status", "--json")) == {}
    assert "Running stage" not in project.call("dvc", "repro")


def test_a_killed_worker_leaves_no_orphan_and_the_next_attempt_goes_on(services: Services, seed: int) -> None:
    run = begin_training(services)
    orphans = trainers(services.project.root)
    (first,) = trainings(run)

    gpu_worker(services).kill()

    assert_ended_early(services.project, orphans, seed)
    wait_for_state(first, "CRASHED", CRASHED_SECONDS)
    ended = services.wait_for(run.id)
    assert ended.state == "COMPLETED", ended.message
    crashed, completed = trainings(run)
    assert (crashed.id, crashed.state, completed.state) == (first.id, "CRASHED", "COMPLETED")
    assert GOING_ON in completed.log(GOING_ON)
    assert_one_result(services, seed)


def test_a_machine_that_falls_silent_is_noticed_and_its_training_goes_on(services: Services, seed: int) -> None:
    run = begin_training(services)
    orphans = trainers(services.project.root)
    (first,) = trainings(run)
    engines = [
        process
        for process in processes_with(services.project, "-m", "prefect.engine")
        if process.environ().get("PREFECT__FLOW_RUN_ID") == first.id
    ]
    assert len(engines) == 1
    machine = [gpu_worker(services), *engines]

    for process in machine:
        process.suspend()  # neither may tell of the other's end
    for process in machine:
        process.kill()

    assert_ended_early(services.project, orphans, seed)
    assert services.find_run(first.id).state == "RUNNING", "somebody was left to tell the server"
    crashed = wait_for_state(first, "CRASHED", CRASHED_SECONDS)
    assert "no heartbeat" in crashed.message
    ended = services.wait_for(run.id)
    assert ended.state == "COMPLETED", ended.message
    *_, completed = trainings(run)
    assert GOING_ON in completed.log(GOING_ON)
    assert_one_result(services, seed)


@pytest.mark.parametrize("cancelled", ["retraining", "training"])
def test_a_cancelled_run_ends_its_training_and_the_next_retraining_goes_on(
    services: Services, seed: int, cancelled: str
) -> None:
    run = begin_training(services)
    orphans = trainers(services.project.root)
    (child,) = trainings(run)
    asked = run if cancelled == "retraining" else child

    # What the UI's button "Cancel" sends.
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    services.request("POST", f"/flow_runs/{asked.id}/set_state", cancelling)

    assert_ended_early(services.project, orphans, seed)
    wait_for_state(child, "CANCELLED", CRASHED_SECONDS)
    if cancelled == "retraining":
        wait_for_state(run, "CANCELLED", CRASHED_SECONDS)
    else:
        assert "cancelled" in wait_for_state(run, "FAILED", CRASHED_SECONDS).message
    assert not trainers(services.project.root)
    assert trainings(run) == [services.find_run(child.id)]

    following = services.retrain()
    assert following.state == "COMPLETED", following.message
    (training,) = trainings(following)
    assert GOING_ON in training.log(GOING_ON)
    assert_one_result(services, seed)


def is_healthy(services: Services) -> bool:
    with contextlib.suppress(httpx.TransportError, AssertionError):
        services.request("GET", "/health")
        return True
    return False


@contextlib.contextmanager
def without_prefect_server(services: Services) -> Iterator[None]:
    """Kills the server, and keeps it from being started again."""
    (keeper,) = processes_with(services.project, "pipelines/keep.sh", "python", "-m", "pipelines.prefect_server")
    keeper.suspend()
    try:
        for process in keeper.children(recursive=True):
            process.kill()
        wait_until(lambda: not is_healthy(services), GONE_SECONDS, "the server's end")
        yield
        assert not is_healthy(services)
    finally:
        keeper.resume()
    wait_until(lambda: is_healthy(services), PATIENCE_SECONDS, "the server's return")


def test_a_training_outlives_the_prefect_server_and_is_not_repeated(services: Services, seed: int) -> None:
    project = services.project
    run = begin_training(services)
    with without_prefect_server(services):
        dvc = str(project.root / ".venv/bin/dvc")
        assert trainers(project.root)
        assert processes_with(project, dvc)
        wait_until(lambda: not trainers(project.root), RETRAINING_SECONDS, "the end of the training")
        wait_until(lambda: not processes_with(project, dvc), PATIENCE_SECONDS, "the end of DVC")
        assert json.loads(project.call("dvc", "status", "--json", "train")) == {}
        assert is_trained(project, seed)
        find_mlflow_run(services, seed)

    ended = services.wait_for(run.id)
    assert ended.state == "COMPLETED", ended.message
    (training,) = trainings(run)
    assert training.state == "COMPLETED", training.message

    following = services.retrain()
    assert (following.state, trainings(following)) == ("COMPLETED", []), following.message
    assert_one_result(services, seed)


def test_a_second_retraining_waits_and_runs_nothing(services: Services, seed: int) -> None:
    run_ids = [services.start_retraining() for _ in range(2)]
    num_trainers = 0
    deadline = time.monotonic() + RETRAINING_SECONDS
    while not all(services.find_run(run_id).state in FINAL for run_id in run_ids):
        assert time.monotonic() < deadline, "the retrainings do not end"
        now = len(trainers(services.project.root))
        assert now <= 1, "two trainings at a time"
        num_trainers = max(num_trainers, now)
        time.sleep(0.1)
    assert num_trainers == 1

    runs = [services.find_run(run_id) for run_id in run_ids]
    assert [run.state for run in runs] == ["COMPLETED"] * 2, [run.message for run in runs]
    first, second = sorted(runs, key=lambda run: -len(run.children()))
    assert len(trainings(first)) == 1
    assert second.children() == []
    assert "another retraining is running in" in second.log("another retraining is running in")
    assert_one_result(services, seed)


ANOTHER_TEAM = """
import time
from prefect import flow, tags

@flow
def elsewhere() -> None:
    time.sleep({seconds})

with tags("elsewhere"):
    elsewhere()
"""


@contextlib.contextmanager
def plain_workers(services: Services, folder: Path) -> Iterator[dict[str, str]]:
    """Workers of `make worker` in the place of those of `make up`; gives what is in their environment."""
    variables = {
        "PREFECT_API_URL": f"http://127.0.0.1:{services.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{services.mlflow_port}",
        "PREFECT_HOME": str(folder / "prefect"),
    }
    project = Project(services.project.root, {**services.project.variables, **variables})
    keepers = processes_with(project, "pipelines/keep.sh", "pipelines/worker.sh")
    assert len(keepers) == 3
    workers = []
    try:
        for keeper in keepers:
            keeper.suspend()
            for process in keeper.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # ended with its parent
                    process.kill()
        with (folder / "workers.log").open("w") as log:
            for arguments in (["control"], ["cpu"], ["gpu", OTHER_DEVICE]):
                command = ["pipelines/worker.sh", *arguments]
                workers.append(project.start(*command, stdout=log, stderr=subprocess.STDOUT))
        wait_until(lambda: other_queue() in online_workers(services), PATIENCE_SECONDS, "the plain workers")
        yield variables
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(GONE_SECONDS)
            worker.kill()
            worker.wait()
        for keeper in keepers:
            keeper.resume()


def test_a_long_training_on_plain_workers_and_another_teams_run_are_no_crashes(
    services: Services, seed: int, tmp_path: Path
) -> None:
    with plain_workers(services, tmp_path) as variables:
        # The training stands still for longer than the automation waits for a heartbeat; its flow runs go on.
        code = ANOTHER_TEAM.format(seconds=STILL_SECONDS + 10)
        login = {"PREFECT_API_AUTH_STRING": services.login()}
        team = Project(services.project.root, {**services.project.variables, **variables, **login})
        with team.start("python", "-c", code) as other:
            run = begin_training(services)
            (training,) = trainings(run)
            (trainer,) = (psutil.Process(pid) for pid in trainers(services.project.root))
            (elsewhere,) = services.request("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["elsewhere"]}}})
            trainer.suspend()
            try:
                time.sleep(STILL_SECONDS)
                states = [services.find_run(run_id).state for run_id in (run.id, training.id)]
            finally:
                trainer.resume()
            other.communicate(timeout=PATIENCE_SECONDS)
        ended = services.wait_for(run.id)
        assert states == ["RUNNING"] * 2
        assert ended.state == "COMPLETED", ended.message
        assert [one.state for one in trainings(ended)] == ["COMPLETED"]
        assert services.find_run(elsewhere["id"]).state == "COMPLETED"
        states_of_other = services.request("GET", f"/flow_run_states/?flow_run_id={elsewhere['id']}")
        assert "CRASHED" not in {state["type"] for state in states_of_other}
        assert_one_result(services, seed)


@pytest.fixture
def other_clone(services: Services, seed: int, tmp_path: Path) -> Iterator[Project]:
    """A clone on 'another machine', with a GPU worker whose queue is `other_queue()`; both share a DVC remote."""
    project = services.project
    project.call("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    project.call("git", "commit", "--quiet", "--all", "--message", f"A remote, and seed {seed}")
    root = tmp_path / "other"
    project.call("git", "clone", "--quiet", str(project.root), str(root))
    variables = {
        "PREFECT_API_URL": f"http://127.0.0.1:{services.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{services.mlflow_port}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_AUTH_STRING": services.login(),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    clone = with_environment(root)
    clone = Project(root, {**clone.variables, **variables})
    with (tmp_path / "worker.log").open("w") as log:
        worker = clone.start("pipelines/worker.sh", "gpu", OTHER_DEVICE, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: other_queue() in online_workers(services), PATIENCE_SECONDS, "the other clone's worker")
            yield clone
        finally:
            worker.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(GONE_SECONDS)
            worker.kill()
            worker.wait()
            project.call("dvc", "remote", "remove", "store")
            project.call("git", "commit", "--quiet", "--all", "--message", "No remote")


def other_queue() -> str:
    """A worker and its queue have the same name."""
    return f"{subprocess.check_output(['uname', '-n'], text=True).strip()}-gpu-{OTHER_DEVICE}"


def online_workers(services: Services) -> set[str]:
    workers = services.request("POST", "/work_pools/gpu/workers/filter", {})
    return {worker["name"] for worker in workers if worker["status"] == "ONLINE"}


def hash_of_model(root: Path) -> str:
    lock = YAML(typ="safe", pure=True).load(root / "dvc.lock")
    (out,) = lock["stages"]["train"]["outs"]
    return str(out["md5"])


def test_a_worker_in_another_clone_trains_a_commit_and_the_result_travels(
    services: Services, other_clone: Project
) -> None:
    project = services.project
    branch = project.call("git", "rev-parse", "--abbrev-ref", "HEAD").strip()
    sha = project.call("git", "rev-parse", "HEAD").strip()

    run = services.retrain(revision=branch, gpu_queue=other_queue())

    assert run.state == "COMPLETED", run.message
    (training,) = trainings(run)
    theirs, ours = (clone.root / "clones" / sha[:12] for clone in (other_clone, project))
    assert str(theirs) in training.message
    assert (theirs / "checkpoints").exists()
    assert not (ours / "checkpoints").exists()
    assert hash_of_model(ours) == hash_of_model(theirs)
    assert hash_of_model(ours) != hash_of_model(project.root)
    weights = "build/model/weights.safetensors"
    assert (ours / weights).read_bytes() == (theirs / weights).read_bytes()


def test_a_worker_in_another_clone_refuses_what_is_not_committed(services: Services, other_clone: Project) -> None:
    services.project.change_params("train.seed", next(SEEDS))
    run = services.retrain(gpu_queue=other_queue())
    assert run.state == "FAILED"
    assert [attempt.state for attempt in trainings(run)] == ["FAILED"]
    host = subprocess.check_output(["uname", "-n"], text=True).strip()
    assert f"params.yaml are not committed in {host}:" in run.message
    assert not (other_clone.root / "checkpoints").exists()
