"""A new MLflow store that a first publish and `make up` meet at once; several publishes: test_first_publish.py."""

from __future__ import annotations

import pytest
from daemons import find_free_ports
from integration.project import MODEL_NAME, TIMEOUT_SECONDS, Project, add_pipelines
from integration.services import Services

pytestmark = pytest.mark.slow


def remove_store(project: Project) -> None:
    for path in project.root.glob("mlflow.db*"):
        path.unlink()


def test_a_first_publish_beside_make_up_makes_one_store(finished: Project) -> None:
    project = add_pipelines(finished)
    services = Services(project, *find_free_ports(2))
    remove_store(project)
    try:
        processes = [project.start("segpipe", "publish"), project.start(*services.command_up)]
        texts = [process.communicate(timeout=TIMEOUT_SECONDS) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], texts
        assert len(services.client().search_model_versions(f"name = '{MODEL_NAME}'")) == 1
    finally:
        project.run("python", "-m", "pipelines.services", "down")
