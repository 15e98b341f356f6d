"""The JSON schema of `params.yaml`: an editor that reads it completes keys and names, and explains them.

`params.schema.json` holds it, `make format` updates it, and `.vscode/settings.json` tells VS Code to use it.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from segpipe.config.params import Config

STANDARD = "https://json-schema.org/draft/2020-12/schema"


def make_schema() -> dict[str, Any]:
    """Gives the schema, each section and key with what the section's docstring says of it."""
    schema = Config.model_json_schema(by_alias=True)
    parts = {"Config": schema, **schema["$defs"]}
    for model in _models_in(Config):
        part, texts = parts[model.__name__], _describe_keys(model)
        part["description"] = inspect.cleandoc(model.__doc__ or "").partition("\n\nAttributes:")[0]
        for key, value in part["properties"].items():
            value.pop("title", None)
            if key in texts:
                value["description"] = texts[key]
    return {"$schema": STANDARD, **schema}


def _models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Gives a section's model and those of its parts."""
    yield model
    for field in model.model_fields.values():
        for kind in _kinds_in(field.annotation):
            yield from _models_in(kind)


def _kinds_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _kinds_in(part)


def _describe_keys(model: type[BaseModel]) -> dict[str, str]:
    """Gives what the docstrings of a model and its bases say below `Attributes:`, by key."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        _, _, attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for key, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", attributes, re.MULTILINE):
            texts[key] = " ".join(text.split())
    return texts
