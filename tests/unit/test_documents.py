"""What stages write is read with care: the bytes stay, old and newer files load, others are refused by file and key."""

import json
from pathlib import Path
from typing import Any

import pytest

from segpipe.documents import (
    ClassWeighting,
    DatasetReport,
    ImageMapping,
    ModelDescription,
    Registration,
    SourceDescription,
)
from segpipe.errors import Problem, StoreError
from segpipe.files import write_json

CLASSES = {"names": ["road", "car"], "colors": [[0, 0, 0], [255, 0, 10]]}
MAPPING = {"bands": [4, 3, 2], "range": [0.0, 4095.0], "percentiles": None, "background": [255, 255, 255]}
MODEL: dict[str, Any] = {
    "signature": "5" * 64,
    "experiment": "starter",
    "model": {"name": "unet", "options": {"width": 8, "deep": {"a": [1, 2.5, None]}}, "in_channels": 4},
    "initial_weights": {"source": "none", "version": None, "sha256": None},
    "classes": CLASSES,
    "dataset": {"name": "dataset", "digest": "d"},
    "params": {"train": {"epochs": 2, "rate": 3e-3}, "class_weights": {"weights": {"road": 1.0, "car": 2.5}}},
    "image_mapping": MAPPING,
    "environment": {"python": "3.11.9"},
    "code": "c" * 64,
    "best_epoch": 2,
    "weights_sha256": "0" * 64,
    "halved_to": 4,
}
MAIN = {"format": "folder", "options": {"masks": "m"}, "licence": "none", "classes": CLASSES}
SOURCE = {
    "name": "data",
    **MAIN,
    "sources": {"data": MAIN, "more": MAIN},
    "image_mapping": MAPPING,
    "sha256": {"data/a.png": "1"},
}
REGISTRATION = {
    "model_name": "street",
    "version": None,
    "decision": "compared only",
    "reasons": ["One.", "Two."],
    "champion": "3",
    "mean_iou": 0.5,
    "weights_sha256": "0" * 64,
    "evaluation_digest": "e",
}


@pytest.mark.parametrize(
    ("kind", "content"),
    [(ModelDescription, MODEL), (SourceDescription, SOURCE), (Registration, REGISTRATION)],
    ids=["model.json", "source.json", "registration.json"],
)
def test_what_is_read_and_written_again_has_the_same_bytes(
    kind: type[ModelDescription], content: dict[str, Any], tmp_path: Path
) -> None:
    write_json(tmp_path / "first.json", content)
    write_json(tmp_path / "second.json", kind.read(tmp_path / "first.json", "").to_json())
    assert (tmp_path / "second.json").read_bytes() == (tmp_path / "first.json").read_bytes()


def test_files_of_the_first_release_and_of_later_ones_are_read() -> None:
    first = {
        key: value
        for key, value in MODEL.items()
        if key not in {"initial_weights", "code", "image_mapping", "halved_to"}
    }
    first["model"] = {"name": "unet", "options": {}, "weights": "none"}
    model = ModelDescription.parse(json.dumps({**first, "later": {"key": 1}}), "", "")
    assert (model.initial_weights, model.code, model.model.in_channels, model.halved_to) == (None, None, 3, None)
    assert model.image_mapping == ImageMapping(None, None, None, None)
    newer = {"options", "sources", "image_mapping"}
    source = SourceDescription.parse(json.dumps({k: v for k, v in SOURCE.items() if k not in newer}), "", "")
    assert (source.options, source.sources) == ({}, {})
    assert source.image_mapping == ImageMapping()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"best_epoch": "2"}, "best_epoch"),
        ({"weights_sha256": None}, "weights_sha256"),
        ({"model": {"options": {}}}, "model.name"),
        ({"classes": {"names": ["road"], "colors": [[0, 0]]}}, "classes.colors.0.2"),
        ({"initial_weights": {"source": "models:/street/1", "version": 1}}, "initial_weights.version"),
        ({"environment": {"torch": ["2.14"]}}, "environment.torch"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_the_fix(change: dict[str, Any], key: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    write_json(path, {**MODEL, **change})
    with pytest.raises(StoreError) as caught:
        ModelDescription.read(path, "run `dvc repro train`")
    assert str(caught.value).startswith(f"{path}: {key}: ")
    assert str(caught.value).endswith("; run `dvc repro train`")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_such_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="model"):
        ModelDescription.read(path, "")
    with pytest.raises(StoreError, match="missing"):
        ModelDescription.read(tmp_path / "missing.json", "")


def test_class_weights_as_they_were_written() -> None:
    written = {"scheme": "none", "cap": 20.0, "options": {}, "share": {"road": 1.0}, "weights": {"road": 0.5}}
    weighting = ClassWeighting.parse(json.dumps(written), "", "")
    assert json.dumps(weighting.to_json()) == json.dumps(written)
    assert weighting.decisive() == {name: value for name, value in written.items() if name != "share"}


def test_the_problems_of_reports_of_all_releases() -> None:
    problem = {"kind": "mask-missing", "where": "a.png", "what": "has no mask"}
    report = {"splits": [], "warnings": [{**problem, "fix": "Draw it"}, {**problem, "mend": "Draw it"}]}
    assert DatasetReport.parse(json.dumps(report), "", "").problems == 2 * (Problem(**problem, fix="Draw it"),)
