"""The results in `build/`: what is refused before it is registered."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from segpipe.classes import ClassTable
from segpipe.documents import BuiltModel, EvaluationDescription, ModelDescription, NamedDataset, UsedParams
from segpipe.errors import StoreError
from segpipe.files import sha256_of_file, write_json
from segpipe.registry.results import Results


@pytest.fixture
def build(tmp_path: Path, classes: ClassTable) -> Path:
    for name in ("dataset", "model", "evaluation"):
        (tmp_path / name).mkdir()
    weights = tmp_path / "model/weights.safetensors"
    weights.write_bytes(b"weights")
    inference = tmp_path / "evaluation/inference.json"
    write_json(inference, {"flip": True})
    model = ModelDescription(
        signature="s" * 64,
        experiment="day",
        model=BuiltModel("unet", {}),
        classes=classes,
        dataset=NamedDataset("streets", "d" * 32),
        params=UsedParams({}, {}),
        environment={},
        best_epoch=0,
        weights_sha256=sha256_of_file(weights),
    )
    evaluation = EvaluationDescription(
        weights_sha256=model.weights_sha256,
        class_table="t" * 16,
        evaluation_digest="e" * 32,
        inference=sha256_of_file(inference)[:32],
    )
    write_json(tmp_path / "model/model.json", asdict(model))
    write_json(tmp_path / "evaluation/evaluation.json", evaluation.to_json())
    write_json(tmp_path / "evaluation/metrics.json", {"val": {"mean_iou": 0.5}})
    write_json(tmp_path / "dataset/report.json", {"splits": [], "warnings": []})
    return tmp_path


def _read(build: Path) -> Results:
    return Results.read(build / "dataset", build / "model", build / "evaluation")


def test_a_served_model_has_the_file_that_says_how_it_predicts(build: Path) -> None:
    _read(build).copy_model(build / "served")
    assert {path.name for path in (build / "served").iterdir()} == {
        "inference.json",
        "model.json",
        "weights.safetensors",
    }


def test_a_model_that_would_be_served_in_another_way_than_it_was_measured_is_refused(build: Path) -> None:
    inference = build / "evaluation/inference.json"
    write_json(inference, {"flip": False})
    with pytest.raises(StoreError, match=r"inference\.json"):
        _read(build)
    inference.unlink()
    with pytest.raises(StoreError, match=r"inference\.json"):
        _read(build)


def test_a_validation_split_without_a_label_is_refused(build: Path) -> None:
    write_json(build / "evaluation/metrics.json", {"val": {"mean_iou": None}})
    with pytest.raises(StoreError, match=r"preprocess\.split\.val"):
        _read(build)
