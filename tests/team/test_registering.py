"""Many who register at once on a server over PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.project import Project
from integration.registering import fabricate, play_rounds, running_processes
from mlflow.tracking import MlflowClient
from team import test_postgres
from team.registry import running_registry

from segpipe.config.register import Register

NUM_ROUNDS = 2

pytestmark = test_postgres.pytestmark
database = test_postgres.database


@pytest.fixture
def address(database: str, tmp_path: Path) -> Iterator[str]:
    with running_registry(database, tmp_path) as address:
        yield address


def test_of_many_at_once_the_best_becomes_champion(address: str, original: Project, tmp_path: Path) -> None:
    models = [
        fabricate(original.root / "build", tmp_path / f"model-{number}", number, [right])
        for number, right in enumerate((60, 70, 80, 80))
    ]
    with running_processes(address, tmp_path) as processes:
        policy = Register(model_name="point", better="point")
        play_rounds(processes, MlflowClient(address), models, policy, NUM_ROUNDS)
