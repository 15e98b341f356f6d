"""`params.yaml` as one frozen, strict model, read once by `load_config`.

A section carries the name of the stage that reads it. A key that is not described here is an error, and so is a value
out of its range: all problems of a file are reported together, before any stage starts its work.

A section is described in the file of its name; what two sections share lies in `section.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.choices import describe_validation_error
from segpipe.config.download import Download, Remote, SourceChoice
from segpipe.config.preprocess import ClassWeights, Preprocess
from segpipe.config.register import Evaluate, Register
from segpipe.config.section import Section
from segpipe.config.train import Train
from segpipe.errors import ConfigError

PARAMS_FILE = Path("params.yaml")

T = TypeVar("T", bound=BaseModel)


class Config(Section):
    """The whole of `params.yaml`; a section for each stage."""

    download: Download
    preprocess: Preprocess
    class_weights: ClassWeights
    train: Train
    evaluate: Evaluate
    register_: Register = Field(alias="register")


def _keys_at(data_path: list[str]) -> list[str]:
    """The right keys of the section that `data_path` leads to."""
    model: Any = Config
    for part in data_path:
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == part), None)
        kinds = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if model is None:
            return []
    return sorted(field.alias or name for name, field in model.model_fields.items())


def load_config(path: Path = PARAMS_FILE) -> Config:
    """Reads and checks a parameter file.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds unknown keys or impossible values: all in one message.
    """
    document = _read_yaml(path, f"must hold the sections {', '.join(_keys_at([]))}")
    return _validate(Config, document, path, _keys_at)


def load_remote(path: Path) -> Remote:
    """Reads and checks a file that says where a source lies.

    Raises:
        ConfigError: as `load_config`.
    """
    known = sorted(Remote.model_fields)
    document = _read_yaml(path, f"must hold {', '.join(known)}")
    return _validate(Remote, document, path, lambda _: known)


def locate(choice: SourceChoice) -> SourceChoice:
    """Gives a source with its place, where it names a file that says the place.

    Raises:
        ConfigError: the file is wrong, or says another path, which DVC would not watch.
    """
    path = Path(choice.source)
    if path.suffix != ".yaml":
        return choice
    remote = load_remote(path)
    if not remote.is_remote:
        raise ConfigError(f"{path}: source: {remote.source} is a path; name it in params.yaml, where DVC watches it")
    return choice.model_copy(update=dict(remote))


def _read_yaml(path: Path, expectation: str) -> dict[str, Any]:
    try:
        # YAML 1.2: `1e-3` is a number, `no` is a word.
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run in the repository's root folder") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: {expectation}")
    return document


def _validate(model: type[T], document: dict[str, Any], path: Path, keys_at: Callable[[list[str]], list[str]]) -> T:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = describe_validation_error(error, keys_at=keys_at)
        raise ConfigError("\n".join(f"{path}: {line}" for line in lines)) from error
