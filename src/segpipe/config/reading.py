"""How a YAML file becomes a section: all that is wrong with it in one message, with the place of each fault."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.choices import describe_validation_error
from segpipe.config.section import Section
from segpipe.errors import ConfigError
from segpipe.places import PARAMS_FILE as PARAMS_FILE

T = TypeVar("T", bound=BaseModel)
S = TypeVar("S", bound=Section)


def load_section(kind: type[S], path: Path = PARAMS_FILE) -> S:
    """Reads and checks one section of a parameter file; the other sections are not checked.

    Args:
        kind: the section's class; its `NAME` is the section's key.
        path: of the file.

    Raises:
        ConfigError: the file is missing or is no YAML, or the section is missing or wrong: all faults in one message.
    """
    document = read_yaml(path, f"must hold the section {kind.NAME}")
    if kind.NAME not in document:
        raise ConfigError(f"{path}: {kind.NAME}: is missing")
    return validate(kind, document[kind.NAME], f"{path}: {kind.NAME}.")


def read_yaml(path: Path, expectation: str) -> dict[str, Any]:
    """Reads a file that holds a mapping.

    Args:
        path: of the file.
        expectation: what the file must hold; the message says it if the file holds no mapping.

    Raises:
        ConfigError: it is missing, is no YAML, or holds something else.
    """
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


def validate(model: type[T], document: Any, where: str) -> T:
    """Makes a pydantic model from the content of a file.

    Args:
        model: its class.
        document: what was read.
        where: begins each line of the message.

    Raises:
        ConfigError: unknown keys or impossible values; all of them in one message.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = describe_validation_error(error, keys_at=lambda path: keys_at(model, path))
        raise ConfigError("\n".join(f"{where}{line}" for line in lines)) from error


def keys_at(model: Any, data_path: list[str]) -> list[str]:
    """Gives the right keys of the part of a model that `data_path` leads to."""
    for part in data_path:
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == part), None)
        kinds = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if model is None:
            return []
    return sorted(field.alias or name for name, field in model.model_fields.items())
