"""A server that sends files under names that lead out of the folder they are downloaded to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """Lists one file, of the name `server.name`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = {"files": [{"path": server.name, "is_dir": False, "file_size": 4}]}
            is_list = self.path.partition("?")[0].endswith("/artifacts")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(listed).encode() if is_list else b"evil")

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "{folder}/evil", "..%2fevil", "%252e%252e%252fevil"])
def test_mlflow_refuses_a_name_that_leads_out(
    server: http.server.ThreadingHTTPServer, tmp_path: Path, name: str
) -> None:
    """It is MLflow that refuses; this tells when a newer one no longer does."""
    server.name = name.format(folder=tmp_path)  # type: ignore[attr-defined]
    (tmp_path / "download").mkdir()
    address = f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts/x"
    with pytest.raises(MlflowException, match="Invalid path"):
        HttpArtifactRepository(address).download_artifacts("", str(tmp_path / "download"))
    assert [path.name for path in tmp_path.rglob("*")] == ["download"]
