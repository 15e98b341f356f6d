"""Models with known scores, and processes that register them: at once, again and again, or killed in the middle.

A fabricated model is the finished project's with other weights and other confusion matrices. In each image every class
has 100 labelled pixels, of which `hits` are right and the rest is taken for the next class: an IoU of
hits / (200 - hits) for each class, and so for their mean.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.tracking import MlflowClient
from safetensors.numpy import load_file, save_file

from segpipe.config.register import Register
from segpipe.files import sha256_of_file, write_json
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.scores import score
from segpipe.registry import lock
from segpipe.registry.champion import (
    change_champion,
    find_champion,
    find_outside_change,
    find_wrong_followers,
    identify,
    promote,
    roll_back,
    unpin,
)
from segpipe.registry.ledger import read_ledger
from segpipe.registry.publish import Registration, publish
from segpipe.registry.results import Results
from segpipe.tracking.client import connect
from segpipe.tracking.history import write_history

NUM_PROCESSES = 8
NUM_CLASSES, CLASS_PX = 3, 100
DIGEST = "fabricated".ljust(32, "0")
ANSWER_SECONDS = 300.0
WRITERS = ("create_", "set_", "log_", "delete_", "update_", "finalize_")

# Children are forked from a process that has imported everything and opened nothing: ten starts a second.
CONTEXT = multiprocessing.get_context("forkserver")
STORES = ["mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"]
CONTEXT.set_forkserver_preload(
    ["__main__", "segpipe.registry.publish", "mlflow.pyfunc.loaders", "pyarrow.parquet", *STORES]
)


@dataclass(frozen=True)
class Known:
    """A model whose score is known.

    Args:
        results: what its training and evaluation have left.
        mean_iou: on the validation images.
    """

    results: Results
    mean_iou: float

    @property
    def weights_sha256(self) -> str:
        return self.results.model.weights_sha256


def fabricate(build: Path, folder: Path, number: int, hits: Sequence[int]) -> Known:
    """Makes a model.

    Args:
        build: of a finished project.
        folder: gets the model's files.
        number: equal numbers give equal weights.
        hits: right pixels of each class, one value an image; each image is a sequence of its own.
    """
    model_folder, evaluation_folder = folder / "model", folder / "evaluation"
    shutil.copytree(build / "model", model_folder, ignore=shutil.ignore_patterns("*.safetensors", "history"))
    write_history(model_folder, [{"epoch": 1, "train_loss": 0.5, "val_loss": 0.5}])
    evaluation_folder.mkdir()
    weights = load_file(build / "model/weights.safetensors")
    first = min(weights)
    weights[first] = weights[first] + np.float32(number + 1)
    save_file(weights, model_folder / "weights.safetensors")
    sha256 = sha256_of_file(model_folder / "weights.safetensors")

    model = json.loads((build / "model/model.json").read_text(encoding="utf-8"))
    write_json(model_folder / "model.json", {**model, "weights_sha256": sha256})
    evaluation = json.loads((build / "evaluation/evaluation.json").read_text(encoding="utf-8"))
    identity = {"weights_sha256": sha256, "evaluation_digest": DIGEST}
    write_json(evaluation_folder / "evaluation.json", {**evaluation, **identity})

    right = np.eye(NUM_CLASSES, dtype=np.int64)
    confusions = [hit * right + (CLASS_PX - hit) * np.roll(right, 1, axis=1) for hit in hits]
    scores = score({"confusion": confusions_of(np.stack(confusions))}, model["classes"]["names"])
    val = {**scores, "mean_iou_low": None, "mean_iou_high": None, "loss": 0.5}
    write_json(evaluation_folder / "metrics.json", {"val": val})
    rows = [
        {
            "sample_id": f"{index:02d}_000",
            "group": f"{index:02d}",
            "split": "val",
            "image_sha256": f"image {index}",
            "mask_sha256": f"mask {index}",
            "mean_iou": mean_iou.compute(confusions_of(confusion[None])),
        }
        for index, confusion in enumerate(confusions)
    ]
    (evaluation_folder / "evidence").mkdir()
    confusions_of(np.stack(confusions)).write(evaluation_folder / "evidence/confusion.parquet")
    pd.DataFrame(rows).to_parquet(evaluation_folder / "per_image.parquet", index=False)
    return Known(Results.read(build / "dataset", model_folder, evaluation_folder), scores["mean_iou"])


# What the processes do


def register(model: Known, policy: Register) -> Registration:
    """Publishes a model."""
    return publish(model.results, Path("no journals"), policy).registration


def change_by_hand(model_name: str, num_changes: int) -> int:
    """Rolls back, promotes the version that was left and takes the pin away, over and over; gives how often."""
    client = connect()
    for _ in range(num_changes):
        left = roll_back(client, model_name, "It may have been better before.").entries[-1].entry.champion_before
        assert left is not None
        promote(client, client.get_model_version(model_name, left.version), "It was not.")
        unpin(client, model_name, "The gate decides.")
    return num_changes


def settle(model_name: str) -> None:
    """Does what every change does first."""
    change_champion(connect(), model_name, lambda _: None)


def register_until_killed(model: Known, policy: Register, num_writes: int) -> Registration:
    """Publishes a model and dies after so many calls that change MLflow, unless that many are not needed."""
    depth = count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def count_it(*args: Any, **options: Any) -> Any:
            nonlocal depth, count
            depth += 1
            try:
                answer = call(*args, **options)
            finally:
                depth -= 1
            if not depth:
                count += 1
                if count == num_writes:
                    os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return count_it

    for name in dir(MlflowClient):
        if name.startswith(WRITERS):
            setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    return register(model, policy)


# The processes


def _work(orders: Connection, barrier: Barrier, address: str, folder: Path, lease_seconds: float) -> None:
    """Does what it is told, together with the others, until nobody is left to tell."""
    warnings.simplefilter("ignore")  # SQLAlchemy finds fault with MLflow's tables
    os.environ |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    os.chdir(folder)
    lock.LEASE_SECONDS = lease_seconds
    while True:
        try:
            function, arguments = orders.recv()
        except EOFError:
            return
        barrier.wait()
        try:
            orders.send((function(*arguments), None))
        except Exception:
            orders.send((None, traceback.format_exc()))


@dataclass(frozen=True)
class Processes:
    """Processes that live for many orders and use one MLflow store.

    Args:
        connections: to each of them.
    """

    connections: Sequence[Connection]

    def do(self, *orders: tuple[Callable[..., Any], Any]) -> list[Any]:
        """Lets each process do one thing, all at the same time; gives what each has returned."""
        idle = [(int, ())] * (len(self.connections) - len(orders))
        for connection, order in zip(self.connections, [*orders, *idle], strict=True):
            connection.send(order)
        answers = []
        for connection in self.connections:
            assert connection.poll(ANSWER_SECONDS), "a process does not answer"
            answers.append(connection.recv())
        errors = [error for _, error in answers if error]
        assert not errors, "\n".join(errors)
        return [answer for answer, _ in answers[: len(orders)]]


@contextmanager
def running_processes(
    address: str, folder: Path, num: int = NUM_PROCESSES, lease_seconds: float = lock.LEASE_SECONDS
) -> Iterator[Processes]:
    """Starts processes that live as long as the body.

    Args:
        address: of the MLflow store.
        folder: where they work.
        num: how many.
        lease_seconds: when a lock counts as left behind.
    """
    barrier = CONTEXT.Barrier(num)
    started, connections = [], []
    for _ in range(num):
        mine, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_work, args=(theirs, barrier, address, folder, lease_seconds), daemon=True)
        process.start()
        theirs.close()
        started.append(process)
        connections.append(mine)
    try:
        yield Processes(connections)
    finally:
        for process, connection in zip(started, connections, strict=True):
            connection.close()
            process.terminate()
            process.join()
            process.close()


def kill_while_registering(
    address: str, folder: Path, model: Known, policy: Register, num_writes: int
) -> Registration | None:
    """Registers a model in a process that dies after so many changes of MLflow; gives its answer if it needs fewer."""
    with running_processes(address, folder, num=1) as processes:
        (connection,) = processes.connections
        connection.send((register_until_killed, (model, policy, num_writes)))
        try:
            answer, error = connection.recv()
        except EOFError:
            return None
    assert error is None, error
    return answer


@contextmanager
def asking(client: MlflowClient, model_name: str) -> Iterator[list[str]]:
    """Resolves the alias in a loop while the body runs, as who serves the champion; gives the versions it got."""
    answers: list[str] = []
    errors: list[Exception] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                answers.append(str(client.get_model_version_by_alias(model_name, "champion").version))
            except Exception as error:
                errors.append(error)
            time.sleep(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        thread.join()
    assert errors == []


# What must hold


def assert_decided(client: MlflowClient, model_name: str, published: Sequence[Known]) -> None:
    """The distinct models are the versions, the best of them is the champion, the ledger is whole, nothing is left.

    Of equal ones the lowest number counts. Policy: `better: point`, or scores that differ beyond chance.
    """
    by_weights = {model.weights_sha256: model for model in published}
    versions = client.search_model_versions(f"name = '{model_name}'")
    found = {int(version.version): version.tags["segpipe.weights_sha256"] for version in versions}
    assert sorted(found.values()) == sorted(by_weights)
    assert sorted(found) == list(range(1, len(by_weights) + 1))

    best = min(found, key=lambda number: (-by_weights[found[number]].mean_iou, number))
    champion = find_champion(client, model_name)
    assert champion is not None
    assert int(champion.version) == best
    ledger = read_ledger(client, model_name)
    assert ledger.problems == ()
    assert ledger.champion == identify(champion)
    assert ledger.entries[-1].is_applied
    assert find_outside_change(client, ledger) is None
    assert find_wrong_followers(client, ledger) == {}
    assert all(ledger.decision_about(identify(version)) is not None for version in versions)
    names = {model.name for model in client.search_registered_models()}
    assert {name for name in names if name.startswith(model_name)} == {model_name, f"{model_name}.ledger"}


def play_rounds(
    processes: Processes, client: MlflowClient, models: Sequence[Known], policy: Register, num_rounds: int
) -> None:
    """Lets all processes register at once, each a model drawn from a few, under a new name in each round."""
    for number in range(num_rounds):
        rng = random.Random(number)
        drawn = [rng.choice(models) for _ in processes.connections]
        named = policy.model_copy(update={"model_name": f"{policy.model_name}-{number}-"})
        answers = processes.do(*((register, (model, named)) for model in drawn))
        assert_decided(client, named.model_name, drawn)
        for model, answer in zip(drawn, answers, strict=True):
            tags = client.get_model_version(named.model_name, answer.version).tags
            assert tags["segpipe.weights_sha256"] == answer.weights_sha256 == model.weights_sha256


def kill_at_writes(
    processes: Processes,
    client: MlflowClient,
    address: str,
    folder: Path,
    build: Path,
    policy: Register,
    writes: Iterable[int],
) -> int:
    """Kills the registration of a better model after its first, second ... write, and registers it again each time.

    Args:
        processes: register the champion before, and the model again; their lease is short.
        client: of their store.
        address: of their store.
        folder: gets the models.
        build: of a finished project.
        policy: `better: point`.
        writes: after which to kill, increasing; the last ones are more than there are.

    Returns:
        How often it was killed.
    """
    old = fabricate(build, folder / f"{policy.model_name}-old", 1000, [50])
    for num_killed, num_writes in enumerate(writes):
        named = policy.model_copy(update={"model_name": f"{policy.model_name}-{num_writes}-"})
        processes.do((register, (old, named)))
        # New weights each time: their run and their logged model do not exist either.
        new = fabricate(build, folder / f"{named.model_name}new", 1000 + num_writes, [90])
        answer = kill_while_registering(address, folder, new, named, num_writes)

        champion = find_champion(client, named.model_name)
        assert champion is not None
        assert champion.tags["segpipe.weights_sha256"] in {old.weights_sha256, new.weights_sha256}
        assert read_ledger(client, named.model_name).problems == ()
        (again,) = processes.do((register, (new, named)))
        assert again.champion == again.version
        # Where all had been decided, the dead one's lock lies there until somebody wants to change something.
        processes.do((settle, (named.model_name,)))
        assert_decided(client, named.model_name, [old, new])
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        mine = f"tags.`segpipe.weights_sha256` = '{new.weights_sha256}'"
        (run,) = client.search_runs(experiments, mine)
        assert run.info.status == "FINISHED"
        models = client.search_logged_models(experiments, f"source_run_id = '{run.info.run_id}'")
        assert [str(model.status) for model in models].count("READY") == 1
        if answer is not None:
            return num_killed
    raise AssertionError("it was killed each time: there are more writes than these")
