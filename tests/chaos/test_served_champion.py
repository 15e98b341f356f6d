"""`make up SERVE=1` before there is a champion: the service waits, serves the first, and ends with the others."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest
from daemons import find_free_ports, listens
from facts import missing
from integration.project import MODEL_NAME, Project, add_pipelines
from integration.services import Services

pytestmark = pytest.mark.slow
SERVED_SECONDS = 180.0  # for the poll, the export and the trial of a version, on a busy machine


def wait_until(is_true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_service_waits_for_the_first_champion(finished: Project) -> None:
    project = add_pipelines(finished)
    *ports, port = find_free_ports(3)
    services = Services(project, *ports)
    for path in project.root.glob("mlflow.db*"):
        path.unlink()
    address = f"http://127.0.0.1:{port}"
    try:
        said = project.call(*services.command_up, "--serve-port", str(port))
        assert address in said
        wait_until(lambda: httpx.get(f"{address}/readyz").json()["trouble"] is not None, 30)
        ready = httpx.get(f"{address}/readyz")
        assert ready.status_code == 503
        assert not missing(ready.json()["trouble"]["reason"], MODEL_NAME, "champion")
        assert httpx.get(f"{address}/healthz").status_code == 200
        assert '"event": "waiting for a model"' in (project.root / ".services/log").read_text(encoding="utf-8")

        project.call("segpipe", "publish")
        wait_until(lambda: httpx.get(f"{address}/readyz").status_code == 200, SERVED_SECONDS)
        assert httpx.get(f"{address}/model").json()["model"]["name"] == MODEL_NAME
    finally:
        stopped = project.run("python", "-m", "pipelines.services", "down")
    assert "segpipe serve" in stopped.stdout
    assert not listens(port)
