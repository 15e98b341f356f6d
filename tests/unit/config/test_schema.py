"""`params.schema.json`: it is that of today's sections, it takes our files and refuses what `segpipe check` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from segpipe.config.schema import make_schema
from segpipe.config.section import CHOICE

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def without_names(part: Any) -> Any:
    """A schema without the names of choices: a new model is one file, and not one more change here."""
    if isinstance(part, dict):
        left = {key for key in part if not (key == "enum" and CHOICE in part)}
        return {key: without_names(part[key]) for key in left}
    return [without_names(item) for item in part] if isinstance(part, list) else part


def test_the_file_is_what_make_format_writes() -> None:
    assert without_names(SCHEMA) == without_names(json.loads(json.dumps(make_schema())))


def test_the_editor_reads_this_file() -> None:
    settings = json.loads((ROOT / ".vscode/settings.json").read_text(encoding="utf-8"))
    assert settings["yaml.schemas"] == {"./params.schema.json": ["params.yaml", "recipes/*.yaml"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_files_are_valid(path: Path) -> None:
    errors = [error.message for error in Draft202012Validator(make_schema()).iter_errors(read(path))]
    assert errors == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.learning_rat", 0.1),
        ("train.epochs", 0),
        ("train.model.name", "unett"),
        ("download.format", "foldre"),
        ("preprocess.policy.actions", {"no-such-kind": "warn"}),
        ("register.better", "luck"),
    ],
)
def test_a_fault_is_shown(key: str, value: object) -> None:
    document = read(FILES[0])
    *path, last = key.split(".")
    section = document
    for part in path:
        section = section[part]
    section[last] = value
    (error,) = Draft202012Validator(make_schema()).iter_errors(document)
    assert list(error.absolute_path) in (key.split("."), path, [*path, last, "no-such-kind"])


def test_each_key_is_explained() -> None:
    schema = make_schema()
    for name in ("Train", "Download", "Preprocess", "ClassWeights", "Register", "Evaluate"):
        for key, part in schema["$defs"][name]["properties"].items():
            assert part.get("description"), f"{name}.{key}"
