"""Six clones of a finished project publish at once into a store that does not exist yet, again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.project import EXPERIMENT, MODEL_NAME, TIMEOUT_SECONDS, Project
from mlflow.entities import ViewType
from stores import open_store

from segpipe.registry.ledger import read_ledger

NUM_ROUNDS, NUM_CLONES = 20, 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clones(original: Project, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clones")
    return [original.copy_to(folder / str(number)).root for number in range(NUM_CLONES)]


@pytest.mark.parametrize("number", range(1, NUM_ROUNDS + 1))
def test_first_publishes_at_once(clones: list[Path], tmp_path: Path, number: int) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db"
    variables = {"MLFLOW_TRACKING_URI": address}
    processes = [Project(root, variables).start("segpipe", "publish") for root in clones]
    texts = [process.communicate(timeout=3 * TIMEOUT_SECONDS) for process in processes]
    failed = [texts[i][1][-300:] for i, process in enumerate(processes) if process.returncode != 0]
    print(f"round {number}: {len(failed)} of {NUM_CLONES} failed")
    assert failed == []

    client = open_store(address)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert [run.info.status for run in runs] == ["FINISHED"]
    (version,) = client.search_model_versions(f"name = '{MODEL_NAME}'")
    assert client.get_model_version_by_alias(MODEL_NAME, "champion").version == version.version
    ledger = read_ledger(client, MODEL_NAME)
    assert ledger.problems == ()
    assert [sealed.entry.action for sealed in ledger.entries] == ["promoted"]
