"""A server that does not answer."""

from __future__ import annotations

import socket

import pytest

from segpipe.errors import TrackingError
from segpipe.tracking.client import connect


def test_a_server_that_is_down_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # a port of this machine on which nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(TrackingError, match=r"cannot be used: .*; start it, or unset MLFLOW_TRACKING_URI"):
            connect()
