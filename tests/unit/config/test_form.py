"""`params.yaml` and the recipes state every key, and DVC's own writer changes one line where one value changes."""

import difflib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from pydantic import BaseModel
from ruamel.yaml import YAML

from segpipe.config.params import load_config

ROOT = Path(__file__).parents[3]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return document


def missing_keys(model: BaseModel, document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of a section, and of the sections and lists in it, that a document does not state."""
    for name, field in type(model).model_fields.items():
        key, value = field.alias or name, getattr(model, name)
        if key not in document:
            yield f"{prefix}{key}"
        elif isinstance(value, BaseModel):
            yield from missing_keys(value, document[key], f"{prefix}{key}.")
        elif isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, BaseModel):
                    yield from missing_keys(one, document[key][index], f"{prefix}{key}.{index}.")
        elif isinstance(value, dict):
            for one_name, one in value.items():
                if isinstance(one, BaseModel):
                    yield from missing_keys(one, document[key][one_name], f"{prefix}{key}.{one_name}.")


@every_file
def test_every_key_is_stated(path: Path) -> None:
    assert list(missing_keys(load_config(path), read(path))) == []


@every_file
@pytest.mark.parametrize("override", ["register.min_delta=0.01", "train.learning_rate=0.00007", "train.seed=17"])
def test_dvc_changes_one_line_where_one_value_changes(path: Path, override: str, tmp_path: Path) -> None:
    changed = Path(shutil.copyfile(path, tmp_path / path.name))
    apply_overrides(changed, [override])  # what `dvc exp run -S` and `--set-param` call
    before, after = (file.read_text(encoding="utf-8").splitlines() for file in (path, changed))
    difference = [line for line in difflib.ndiff(before, after) if line[:2] in {"- ", "+ "}]
    assert [line[0] for line in difference] == ["-", "+"], difference
    assert difference[1].split("#")[0].split()[-1] == repr(float(override.split("=")[1])).removesuffix(".0")
