"""A stage `register` that exports: the real network, the real store, and the service that takes what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from facts import missing
from integration.project import EXPERIMENT, Project
from integration.registering import Known, fabricate
from mlflow.tracking import MlflowClient
from stores import open_store

from segpipe.config.register import Register
from segpipe.errors import ExportError
from segpipe.files import sha256_of_file, write_json
from segpipe.registry import exports, timing, verdict
from segpipe.registry.exports import list_exports
from segpipe.registry.measuring.measure import Latency
from segpipe.registry.publish import publish, record_only
from segpipe.serving import backends
from segpipe.serving.backends import choose_folder, load_served
from segpipe.tracking.client import connect
from segpipe.tracking.registered import fetch_version, find_exports

# MLflow's own, when `mlflow.pyfunc` is imported, and SQLAlchemy's about its tables.
pytestmark = pytest.mark.filterwarnings("ignore")
NAME = "exported"
POLICY = Register(model_name=NAME, export=["onnx"])
NO_JOURNALS = Path("no journals")


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
    assert said.count("exporting to onnx") == 1
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
    held = find_exports(tmp_path / "version")
    description = json.loads((held["onnx"] / "export.json").read_text(encoding="utf-8"))
    assert sha256_of_file(held["onnx"] / "model.onnx") == description["files"]["model.onnx"]
    assert description["parity"]["images"] == "validation"
    assert description["lineage"]["weights_sha256"] == registration["weights_sha256"]
    assert len(description["lineage"]["commit"]) == 40
    assert {path.name for path in files.iterdir()} >= {"model.json", "weights.safetensors"}

    def refuse(*_: object) -> None:
        raise AssertionError("an export is made, though there is one")

    monkeypatch.setattr(backends, "_export", refuse)
    for backend in ("onnx", "openvino"):
        folder = choose_folder(files, held, backend)
        served = load_served(folder, backend, tmp_path / "workspace", NAME, "1")
        assert served.model.weights_sha256 == registration["weights_sha256"]
    assert choose_folder(files, held, "torch") == files


@pytest.fixture
def known(original: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Known]:
    """A model that is not registered yet, and an empty store of MLflow in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    open_store(f"sqlite:///{tmp_path}/mlflow.db")
    yield fabricate(original.root / "build", tmp_path / "model", 1, [60] * 3)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def made(known: Known, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formats in which the model was exported; the exports are texts."""
    seen: list[str] = []

    def make(files: Path, output: Path, form: str, dataset: Path, commit: str | None) -> None:
        seen.append(form)
        output.mkdir(parents=True)
        (output / "model.onnx").write_text("graph", encoding="utf-8")
        write_json(output / "export.json", {"lineage": {"weights_sha256": known.weights_sha256}})

    monkeypatch.setattr(exports, "_make", make)
    return seen


@pytest.mark.parametrize("last_step", ["create_model_version", "log_model_artifact"])
def test_a_registration_that_was_stopped_neither_loses_nor_repeats_an_export(
    known: Known, made: list[str], monkeypatch: pytest.MonkeyPatch, last_step: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, last_step, stop)
        with pytest.raises(KeyboardInterrupt):
            publish(known.results, NO_JOURNALS, POLICY)
    was_logged = last_step == "create_model_version"
    for _ in range(2):
        assert publish(known.results, NO_JOURNALS, POLICY).registration.version == "1"
    assert made == ["onnx"] * (1 if was_logged else 2)
    client = connect()
    (model,) = client.search_logged_models([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert list_exports(client, model.model_id) == ["onnx"]


def test_an_export_that_is_wrong_stops_the_registration_before_it_writes(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ExportError("the export does not predict what the model predicts")

    monkeypatch.setattr(exports, "_make", fail)
    with pytest.raises(ExportError) as refused:
        publish(known.results, NO_JOURNALS, POLICY)
    assert not missing(str(refused.value), "its export to onnx", "register.export", "does not predict")
    client = connect()
    assert client.get_experiment_by_name(EXPERIMENT) is None
    assert client.search_registered_models() == []


def test_an_experiment_exports_only_what_its_budget_times(
    known: Known, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_only(known.results, NO_JOURNALS, POLICY)
    assert made == []
    monkeypatch.setattr(verdict, "_validation", lambda *_: None)
    monkeypatch.setattr(timing, "latency_of_served", lambda models, _: [Latency(5.0, 4.0, 6.0) for _ in models])
    timed = Register.model_validate(
        {"model_name": NAME, "export": ["torch", "onnx"], "budget": {"backend": "onnx", "latency_ms": 4.0}}
    )
    registration = record_only(known.results, NO_JOURNALS, timed)
    assert made == ["onnx"]
    assert "5.0 ms an image by the export to onnx" in " ".join(registration.reasons)
