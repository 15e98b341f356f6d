"""The exports of a version in a real MLflow store: whole or not there, and of its own weights; the making is a fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from facts import missing
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.code import PACKAGE
from segpipe.errors import CommandError, IncomparableError, TrackingError
from segpipe.registry import exports
from segpipe.registry.exports import export_version, fetch_export, find_logged_model, list_exports, log_exports
from segpipe.registry.measuring.trust import Runnable

WEIGHTS = "5" * 64


@pytest.fixture
def model_id(client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A logged model without exports."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    mlflow.set_tracking_uri(client.tracking_uri)
    experiment = client.create_experiment("boxes", artifact_location=(tmp_path / "files").as_uri())
    model = client.create_logged_model(experiment, "unet")
    client.finalize_logged_model(model.model_id, "READY")
    yield str(model.model_id)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def version(client: MlflowClient, model_id: str) -> ModelVersion:
    client.create_registered_model("boxes")
    tags = {"segpipe.weights_sha256": WEIGHTS}
    return client.create_model_version("boxes", f"models:/{model_id}", tags=tags, model_id=model_id)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.onnx").write_text("graph", encoding="utf-8")
    (folder / "export.json").write_text(json.dumps({"lineage": {"weights_sha256": WEIGHTS}}), encoding="utf-8")
    return folder


def test_an_export_is_logged_once(
    client: MlflowClient, version: ModelVersion, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = find_logged_model(version)
    assert model_id is not None
    assert list_exports(client, model_id) == []
    assert fetch_export(client, version, "onnx", tmp_path / "nothing") is None
    log_exports(client, model_id, {"onnx": export, "openvino": export})
    assert list_exports(client, model_id) == ["onnx", "openvino"]
    folder = fetch_export(client, version, "onnx", tmp_path / "fetched")
    assert folder is not None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in export.iterdir()
    }

    def refuse(*_: Any) -> None:
        raise AssertionError("it is logged twice")

    monkeypatch.setattr(MlflowClient, "log_model_artifact", refuse)
    log_exports(client, model_id, {"onnx": export})


def test_half_an_export_does_not_count_and_is_completed(
    client: MlflowClient, model_id: str, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, logged = MlflowClient.log_model_artifact, []

    def log_one(self: MlflowClient, model: str, path: str, place: str) -> None:
        if logged:
            raise KeyboardInterrupt
        logged.append(Path(path).name)
        log(self, model, path, place)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifact", log_one)
        with pytest.raises(KeyboardInterrupt):
            log_exports(client, model_id, {"onnx": export})
    assert logged == ["model.onnx"]
    assert list_exports(client, model_id) == []
    log_exports(client, model_id, {"onnx": export})
    assert list_exports(client, model_id) == ["onnx"]
    files = [Path(file.path).name for file in client.list_logged_model_artifacts(model_id, "exports/onnx")]
    assert sorted(files) == ["export.json", "model.onnx"]


@pytest.mark.parametrize("text", ['{"lineage": {"weights_sha256": "other"}}', "{}", "[]", "no JSON"])
def test_an_export_of_other_weights_is_not_taken(
    client: MlflowClient, version: ModelVersion, model_id: str, export: Path, tmp_path: Path, text: str
) -> None:
    (export / "export.json").write_text(text, encoding="utf-8")
    log_exports(client, model_id, {"onnx": export})
    with pytest.raises(TrackingError) as refused:
        fetch_export(client, version, "onnx", tmp_path / "fetched")
    assert not missing(str(refused.value), "models:/boxes/1/exports/onnx", "restore its files")


def test_a_version_of_another_program_has_no_exports(client: MlflowClient) -> None:
    client.create_registered_model("boxes")
    version = client.create_model_version("boxes", "runs:/x/model", await_creation_for=0)
    assert find_logged_model(version) is None
    assert list_exports(client, None) == []


def test_a_champion_is_exported_only_by_the_code_that_it_was_registered_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def make(module: str, arguments: list[str], *, env: dict[str, str], **_: Any) -> None:
        asked.append((module, arguments, env))
        raise CommandError("the export ended with exit code 1", ("it predicts", "by windows"))

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setattr(exports, "run_module", make)
    for sources in (None, tmp_path / "an earlier commit"):
        with pytest.raises(IncomparableError, match="other code") as refused:
            export_version(Runnable(tmp_path, sources), "onnx", tmp_path, tmp_path / "output")
        assert "backend: torch" in str(refused.value)
    assert not asked

    with pytest.raises(IncomparableError) as refused:
        export_version(Runnable(tmp_path, PACKAGE.parent), "onnx", tmp_path, tmp_path / "output")
    assert not missing(str(refused.value), "it predicts by windows", "registry promote")
    ((module, arguments, env),) = asked
    assert module == "segpipe.serving.preparing"
    assert arguments[2:4] == ["--format", "onnx"]
    assert "MLFLOW_TRACKING_PASSWORD" not in env
