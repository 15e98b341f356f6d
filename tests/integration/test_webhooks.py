"""MLflow's webhooks on a real server: the champion moves, and a listener on this machine gets a signed call."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from daemons import answers, find_free_ports, running
from fresh_store import _empty_store, add_version, client
from integration.project import environment
from integration.serving import serving
from mlflow.tracking import MlflowClient
from stores import open_store
from tiny_network import write_network

from segpipe.registry.champion import promote

__all__ = ["_empty_store", "add_version", "client"]
NAME, SECRET = "boxes", "what both know"
CALL_SECONDS = 30


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves the store of a folder as docs/registry.md says; gives the server's address."""
    (port,) = find_free_ports(1)
    variables = {
        **environment(folder),
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with running(command, variables, folder / "log") as mlflow:
        mlflow.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def listening() -> Iterator[tuple[str, queue.Queue[tuple[dict[str, str], bytes]]]]:
    """Runs a listener; gives its address, and headers and body of each call."""
    calls: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.put((dict(self.headers), body))
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/champion", calls
        server.shutdown()


def is_signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """The check that docs/registry.md gives to who listens."""
    signed = b".".join([headers["X-MLflow-Delivery-Id"].encode(), headers["X-MLflow-Timestamp"].encode(), body])
    expected = "v1," + base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()
    return hmac.compare_digest(expected, headers["X-MLflow-Signature"])


@pytest.mark.slow
def test_a_moved_champion_calls_a_listener_with_a_signature(client: MlflowClient, tmp_path: Path) -> None:
    client.create_registered_model(NAME)
    for number in (1, 2):
        tags = {"segpipe.weights_sha256": f"weights {number}"}
        client.create_model_version(NAME, source="runs:/x/model", tags=tags, await_creation_for=0)
    with listening() as (listener, calls), served(tmp_path) as address:
        online = open_store(address)
        online.create_webhook("champion", listener, ["model_version_alias.created"], secret=SECRET)
        moved = []
        for number in ("1", "2"):
            promote(online, online.get_model_version(NAME, number), "Better.")
            while not moved or moved[-1]["version"] != number or moved[-1]["alias"] != "champion":
                headers, body = calls.get(timeout=CALL_SECONDS)
                assert is_signed(headers, body, SECRET)
                assert not is_signed(headers, body, "another secret")
                assert not is_signed(headers, body + b" ", SECRET)
                call = json.loads(body)
                assert (call["entity"], call["action"]) == ("model_version_alias", "created")
                moved.append(call["data"])
    assert {"name": NAME, "alias": "champion", "version": "1"} in moved
    assert {"name": NAME, "alias": "champion", "version": "2"} in moved


@pytest.mark.slow
def test_the_service_follows_both_aliases_when_mlflow_calls_it(client: MlflowClient, tmp_path: Path) -> None:
    """The service itself would ask the registry after an hour: each change comes from a call."""
    client.create_registered_model(NAME)
    for seed in range(3):
        source = write_network(tmp_path / f"network{seed}", seed).as_uri()
        client.create_model_version(NAME, source=source, await_creation_for=0)
    client.set_registered_model_alias(NAME, "champion", "1")
    options = ("--model", f"models:/{NAME}@champion", "--challenger", "--backend", "torch", "--poll", "3600")
    with (
        served(tmp_path) as address,
        serving(tmp_path / "serve", *options, "--registry", address, SEGPIPE_SERVE_WEBHOOK_SECRET=SECRET) as service,
    ):
        online = open_store(address)
        events = ["model_version_alias.created", "model_version_alias.deleted"]
        online.create_webhook("serve", f"{service.address}/hooks/mlflow", events, secret=SECRET)
        online.create_webhook("forged", f"{service.address}/hooks/mlflow", events, secret="another secret")

        def versions() -> tuple[str, str | None]:
            document = httpx.get(f"{service.address}/model").json()
            challenger = document["challenger"]
            return document["model"]["version"], challenger and challenger["model"]["version"]

        def wait_for(expected: tuple[str, str | None]) -> None:
            deadline = time.monotonic() + CALL_SECONDS
            while versions() != expected:
                assert time.monotonic() < deadline, (versions(), service.daemon.log.read_text(encoding="utf-8"))
                time.sleep(0.1)

        assert versions() == ("1", None)
        online.set_registered_model_alias(NAME, "champion", "2")
        wait_for(("2", None))
        online.set_registered_model_alias(NAME, "challenger", "3")
        wait_for(("2", "3"))
        online.delete_registered_model_alias(NAME, "challenger")
        wait_for(("2", None))
        log = [json.loads(line) for line in service.daemon.log.read_text(encoding="utf-8").splitlines()[1:]]
    calls = [one["status"] for one in log if one.get("path") == "/hooks/mlflow"]
    assert calls.count(202) >= 3
    assert 401 in calls
