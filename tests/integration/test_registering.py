"""Many who register at once, and one who is killed at it: the right champion, each model once, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from integration.project import Project
from integration.registering import (
    Known,
    Processes,
    asking,
    change_by_hand,
    fabricate,
    kill_at_writes,
    play_rounds,
    register,
    running_processes,
)
from mlflow.tracking import MlflowClient
from stores import open_store

from segpipe.config.register import Register
from segpipe.registry.champion import find_champion, identify
from segpipe.registry.ledger import read_ledger

POINT = Register(model_name="point", better="point")
INTERVAL = Register(model_name="interval", better="interval")
NUM_ROUNDS = 1  # `make chaos` plays more
FEW_IMAGES = 3
# `make chaos` kills after each write.
SOME_WRITES = range(2, 100, 8)
NUM_KILLS = 3
LEASE_SECONDS = 3.0
NUM_CHANGES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registering")


@pytest.fixture(scope="module")
def address(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="module")
def client(address: str) -> MlflowClient:
    return open_store(address)


@pytest.fixture(scope="module")
def processes(client: MlflowClient, address: str, folder: Path) -> Iterator[Processes]:
    with running_processes(address, folder) as processes:
        yield processes


@pytest.fixture(scope="module")
def models(original: Project, folder: Path) -> list[Known]:
    """Of known scores; two are equal, and the best."""
    hits = (60, 70, 80, 80)
    return [
        fabricate(original.root / "build", folder / f"model-{number}", number, [right] * FEW_IMAGES)
        for number, right in enumerate(hits)
    ]


def test_scores_by_hand(models: list[Known]) -> None:
    assert [model.mean_iou for model in models] == pytest.approx([60 / 140, 70 / 130, 80 / 120, 80 / 120])


def test_of_many_at_once_the_best_becomes_champion(
    processes: Processes, client: MlflowClient, models: list[Known]
) -> None:
    play_rounds(processes, client, models, POINT, NUM_ROUNDS)


def test_beyond_chance_too(processes: Processes, client: MlflowClient, original: Project, folder: Path) -> None:
    rng = np.random.default_rng(0)
    far_apart = [
        fabricate(original.root / "build", folder / f"apart-{right}", right, rng.integers(right - 2, right + 3, 24))
        for right in (60, 70, 80)
    ]
    play_rounds(processes, client, far_apart, INTERVAL, 1)


def test_who_asks_for_the_champion_always_gets_one(
    processes: Processes, client: MlflowClient, models: list[Known], original: Project, folder: Path
) -> None:
    policy = POINT.model_copy(update={"model_name": "served"})
    for model in models[:2]:
        processes.do((register, (model, policy)))
    better = [
        fabricate(original.root / "build", folder / f"better-{right}", right, [right] * FEW_IMAGES)
        for right in (82, 84, 86)
    ]
    with asking(client, policy.model_name) as answers:
        processes.do(
            (change_by_hand, (policy.model_name, NUM_CHANGES)), *((register, (model, policy)) for model in better)
        )
    assert "2" in answers
    assert {"1"} < set(answers)
    ledger = read_ledger(client, policy.model_name)
    assert ledger.problems == ()
    assert [sealed.entry.action for sealed in ledger.entries].count("rolled back") == NUM_CHANGES
    champion = find_champion(client, policy.model_name)
    assert champion is not None
    assert ledger.champion == identify(champion)


def test_a_registration_that_was_killed_is_finished_by_the_next(
    client: MlflowClient, address: str, original: Project, folder: Path
) -> None:
    with running_processes(address, folder, num=1, lease_seconds=LEASE_SECONDS) as processes:
        policy = POINT.model_copy(update={"model_name": "killed"})
        num_kills = kill_at_writes(processes, client, address, folder, original.root / "build", policy, SOME_WRITES)
    assert num_kills >= NUM_KILLS
