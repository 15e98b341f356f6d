"""A stage `register` that exports: the real network, the real store, and the service that takes what is there."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from integration.project import Project

from segpipe.files import sha256_of_file
from segpipe.serving import backends
from segpipe.serving.backends import choose_folder, load_served
from segpipe.tracking.registered import fetch_version, find_exports

NAME = "exported"


def register(project: Project, latency_ms: float) -> tuple[dict[str, object], str]:
    """Registers with a limit of the export's latency; gives `registration.json` and what the stage said."""
    project.change_params("register.budget", {"backend": "onnx", "latency_ms": latency_ms})
    said = project.stage("register")
    return project.json("build/registration.json"), said


def test_the_export_is_made_once_timed_by_the_gate_and_served(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.change_params("register.model_name", NAME)
    finished.change_params("register.export", ["onnx"])
    registration, said = register(finished, 1e-4)
    assert "exporting to onnx" in said
    assert (registration["version"], registration["champion"]) == ("1", None)
    assert "by the export to onnx" in str(registration["reasons"])

    # Decided again: the version holds the export already.
    registration, said = register(finished, 1e6)
    assert "exporting" not in said
    assert (registration["version"], registration["champion"]) == ("1", "1")
    assert f"models:/{NAME}/1/exports/onnx" in finished.call("segpipe", "registry", "show", "champion")

    finished.client()  # its store is MLflow's now
    mlflow.set_tracking_uri(f"sqlite:///{finished.root}/mlflow.db")
    files = fetch_version(NAME, "1", tmp_path / "version")
    (tmp_path / "workspace").mkdir()
    exports = find_exports(tmp_path / "version")
    description = json.loads((exports["onnx"] / "export.json").read_text(encoding="utf-8"))
    assert sha256_of_file(exports["onnx"] / "model.onnx") == description["files"]["model.onnx"]
    assert description["parity"]["images"] == "validation"
    assert description["lineage"]["weights_sha256"] == registration["weights_sha256"]
    assert len(description["lineage"]["commit"]) == 40
    assert {path.name for path in files.iterdir()} >= {"model.json", "weights.safetensors"}

    def refuse(*_: object) -> None:
        raise AssertionError("an export is made, though there is one")

    monkeypatch.setattr(backends, "_export", refuse)
    for backend in ("onnx", "openvino"):
        folder = choose_folder(files, exports, backend)
        served = load_served(folder, backend, tmp_path / "workspace", NAME, "1")
        assert served.model.weights_sha256 == registration["weights_sha256"]
    assert choose_folder(files, exports, "torch") == files
