"""Fifty rounds of eight who register at once, a kill after each write: on SQLite and on a server with PostgreSQL."""

from __future__ import annotations

import itertools
import time
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
from team import test_postgres
from team.registry import running_registry

from segpipe.config.register import Register
from segpipe.registry.ledger import read_ledger

NUM_ROUNDS, NUM_INTERVAL_ROUNDS = 50, 5
NUM_IMAGES, NUM_SEQUENCES = 3, 24
MAX_WRITES = 100
MIN_KILLS = 25
LEASE_SECONDS = 4.0
NUM_CHANGES = 20

pytestmark = pytest.mark.slow
database = test_postgres.database


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db"
        return
    if test_postgres.BINARIES is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with running_registry(request.getfixturevalue("database"), folder) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> MlflowClient:
    return open_store(address)


@pytest.fixture(scope="module")
def processes(client: MlflowClient, address: str, folder: Path) -> Iterator[Processes]:
    with running_processes(address, folder) as processes:
        yield processes


@pytest.fixture(scope="module")
def models(original: Project, tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    """Sixteen; each score belongs to two of them."""
    folder = tmp_path_factory.mktemp("models")
    return [
        fabricate(original.root / "build", folder / str(number), number, [50 + 3 * (number // 2)] * NUM_IMAGES)
        for number in range(16)
    ]


def test_the_right_champion_every_time(processes: Processes, client: MlflowClient, models: list[Known]) -> None:
    started = time.monotonic()
    play_rounds(processes, client, models, Register(model_name="point", better="point"), NUM_ROUNDS)
    print(f"{NUM_ROUNDS} rounds took {time.monotonic() - started:.0f} s")


def test_the_right_champion_beyond_chance(
    processes: Processes, client: MlflowClient, original: Project, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    far_apart = [
        fabricate(
            original.root / "build",
            tmp_path / str(right),
            1000 + right,
            rng.integers(right - 3, right + 4, NUM_SEQUENCES),
        )
        for right in (50, 60, 70, 80)
    ]
    policy = Register(model_name="interval", better="interval")
    play_rounds(processes, client, far_apart, policy, NUM_INTERVAL_ROUNDS)


def test_rollback_under_load(
    processes: Processes, client: MlflowClient, models: list[Known], original: Project, tmp_path: Path
) -> None:
    policy = Register(model_name="served", better="point")
    for model in models[::2][:2]:
        processes.do((register, (model, policy)))
    better = [
        fabricate(original.root / "build", tmp_path / str(right), 2000 + right, [right] * NUM_IMAGES)
        for right in range(80, 87)
    ]
    with asking(client, policy.model_name) as answers:
        by_hand = (change_by_hand, (policy.model_name, NUM_CHANGES))
        processes.do(by_hand, *((register, (model, policy)) for model in better))
    changes = sum(one != other for one, other in itertools.pairwise(answers))
    print(f"the alias was resolved {len(answers)} times and seen to move {changes} times")
    assert changes >= NUM_CHANGES
    ledger = read_ledger(client, policy.model_name)
    assert ledger.problems == ()
    assert [sealed.entry.action for sealed in ledger.entries].count("rolled back") == NUM_CHANGES


def test_killed_after_each_write(client: MlflowClient, address: str, original: Project, tmp_path: Path) -> None:
    policy = Register(model_name="killed", better="point")
    with running_processes(address, tmp_path, num=1, lease_seconds=LEASE_SECONDS) as processes:
        writes = range(1, MAX_WRITES)
        num_kills = kill_at_writes(processes, client, address, tmp_path, original.root / "build", policy, writes)
    print(f"{num_kills} kills")
    assert num_kills >= MIN_KILLS
