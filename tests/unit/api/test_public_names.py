"""The public interface, name by name: whatever changes here is told in CHANGELOG.md, as docs/python.md promises."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import segpipe

MAX_IMPORT_MICROSECONDS = 300_000
DOCUMENT = Path(__file__).parents[3] / "docs/python.md"
SIGNATURES = {
    "build_model": "(name, num_classes, pretrained=False, weights=None, **options)",
    "evaluate": "(model, dataset, split='val')",
    "load_model": "(address, registry=None, device='auto')",
    "open_dataset": "(folder)",
}
MEMBERS = {
    "ClassTable": {"color_lookup", "colors", "digest", "from_json", "names", "num_classes", "to_json"},
    "Dataset": {"classes", "digest", "samples", "split", "splits"},
    "Model": {"classes", "describe", "predict"},
    "ModelSummary": {
        "classes", "inference", "name", "network", "num_parameters", "val_scores", "version", "weights_sha256",
    },
    "Prediction": {"classes", "colors", "confidence", "mask", "notes", "shares"},
    "SegpipeError": {"exit_code"},
}  # fmt: skip
NOT_PUBLIC = {"network", "summary", "store"}  # of Model and Dataset: how they are made


def test_the_names_are_those_that_were_promised() -> None:
    assert sorted(segpipe.__all__) == sorted([*SIGNATURES, *MEMBERS, "__version__"])
    assert set(segpipe.__all__) <= set(dir(segpipe))
    with pytest.raises(AttributeError, match="lod_model"):
        segpipe.lod_model  # noqa: B018


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_arguments_are_those_that_were_promised(name: str) -> None:
    signature = inspect.signature(getattr(segpipe, name))
    parameters = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    assert str(signature.replace(parameters=parameters, return_annotation=signature.empty)) == SIGNATURES[name]
    assert all(one.annotation is not one.empty for one in signature.parameters.values())


@pytest.mark.parametrize("name", MEMBERS)
def test_the_members_of_types_are_those_that_were_promised(name: str) -> None:
    kind = getattr(segpipe, name)
    own = {member for parent in kind.__mro__ if parent.__module__.startswith("segpipe") for member in vars(parent)}
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    found = {member for member in own | fields if not member.startswith("_")}
    assert found - (NOT_PUBLIC if name == "Model" else set()) == MEMBERS[name]


def test_each_name_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in segpipe.__all__:
        assert re.search(rf"`(segpipe\.)?{name}\b", text), name


def test_the_import_loads_none_of_the_libraries() -> None:
    code = "import sys, segpipe; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True)
    assert "segpipe" in done.stdout.split()
    assert not {"torch", "numpy", "pandas", "mlflow", "pydantic", "PIL", "cv2"} & set(done.stdout.split())
    (line,) = [line for line in done.stderr.splitlines() if line.endswith(" segpipe")]
    assert int(line.split("|")[1]) < MAX_IMPORT_MICROSECONDS
