"""A server that does not answer, or is asked past a proxy."""

from __future__ import annotations

import socket

import pytest

from segpipe.errors import TrackingError
from segpipe.tracking.client import connect, refusals


def test_a_server_that_is_down_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # a port of this machine on which nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(TrackingError, match=r"cannot be used: .*; start it, or unset MLFLOW_TRACKING_URI"):
            connect()


def test_a_file_that_cannot_be_written_is_no_refusal_of_mlflow() -> None:
    with pytest.raises(TrackingError, match=r"^a comparison: \[Errno 13\] .*/pages'$"), refusals("a comparison"):
        raise PermissionError(13, "Permission denied", "/pages")
    with pytest.raises(TrackingError, match=r"^a comparison: MLflow refused: reset$"), refusals("a comparison"):
        raise ConnectionError("reset")


def test_no_proxy_sees_what_is_said_to_a_server_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken, socket.create_server(("127.0.0.1", 0)) as proxy:
        taken.bind(("127.0.0.1", 0))
        proxy.setblocking(False)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "example.org")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(TrackingError, match="cannot be used"):
            connect()
        with pytest.raises(BlockingIOError):
            proxy.accept()
