"""A worker that waits for its pool says what it waits for, once, and ends so that its login is read again."""

import json
import sys

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pipelines import await_pool


def wait_for_pool(monkeypatch: pytest.MonkeyPatch, address: str | None, *arguments: str) -> int:
    """Gives the exit code."""
    monkeypatch.setattr(sys, "argv", ["await_pool", *arguments])
    monkeypatch.setattr(await_pool, "POLL_SECONDS", 0)
    monkeypatch.setattr(await_pool, "NUM_TRIES", 3)
    url = None if address is None else f"{address}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        try:
            await_pool.main()
        except SystemExit as error:
            return int(error.code or 0)
    return 0


def test_without_an_address(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert wait_for_pool(monkeypatch, None, "gpu") == 1
    assert "PREFECT_API_URL is not set" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "reason"), [(404, "`make deploy` creates it"), (401, "401"), (500, "500")], ids=str)
def test_a_reason_is_said_once(serve, monkeypatch, capsys, status: int, reason: str) -> None:
    assert wait_for_pool(monkeypatch, serve({"/api/work_pools/gpu": (status, "{}")}), "gpu") == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "waiting for pool gpu" in said
    assert reason in said


def test_a_server_that_is_not_there(monkeypatch, capsys) -> None:
    assert wait_for_pool(monkeypatch, "http://127.0.0.1:9", "gpu") == 1
    assert capsys.readouterr().out.count("\n") == 1


def test_a_pool_that_is_there(serve, monkeypatch, capsys) -> None:
    pool = {"name": "gpu", "type": "process", "default_queue_id": "7a3a9c1e-5c3b-4d0e-9d7c-0a4b8f1d2e3f"}
    assert wait_for_pool(monkeypatch, serve({"/api/work_pools/gpu": (200, json.dumps(pool))}), "gpu") == 0
    assert capsys.readouterr().out == ""
