"""What an alias of a real registry names, while it comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fresh_store import _empty_store, client
from mlflow.tracking import MlflowClient

from segpipe.errors import TrackingError
from segpipe.registry.addresses import TRACKING, as_before
from segpipe.serving.source import follow_alias

__all__ = ["_empty_store", "client"]


def test_a_missing_model_and_a_missing_alias_are_none(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = follow_alias("boxes", "challenger", "onnx")
    with as_before():
        monkeypatch.setenv(TRACKING, "http://127.0.0.1:9")
        with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):  # a service may start before MLflow
            source.find_version()
        monkeypatch.setenv(TRACKING, f"sqlite:///{tmp_path}/mlflow.db")
        assert source.find_version() is None
        client.create_registered_model("boxes")
        client.create_model_version("boxes", source="runs:/x/model", await_creation_for=0)
        assert source.find_version() is None
        client.set_registered_model_alias("boxes", "challenger", "1")
        assert source.find_version() == "1"
        client.delete_registered_model_alias("boxes", "challenger")
        assert source.find_version() is None
