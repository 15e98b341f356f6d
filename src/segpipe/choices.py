"""Choices by name: models, losses, data formats and class-weighting schemes.

A choice is one module that defines the function its registry asks for. To add a choice, add one file. Its name in
`params.yaml` is the file's name, so `dvc.yaml` can depend on exactly that file. Listing or checking names imports
nothing: a stage without torch can check the name of a model.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call
from pydantic_core import ErrorDetails

from segpipe.errors import ConfigError

MAX_NAMES_SHOWN = 50

# What a value must be, by pydantic's name of the error: its own words name classes of Python.
WANTS = {
    "model_type": "hold keys and values, one a line",
    "dict_type": "hold keys and values, one a line",
    "list_type": "be a list",
    "tuple_type": "be a list",
    "int_type": "be an integer",
    "float_type": "be a number",
    "string_type": "be a text",
    "bool_type": "be true or false",
    "none_required": "be null",
    "too_short": "have at least {min_length} items",
    "too_long": "have at most {max_length} items",
    "string_too_short": "have at least {min_length} characters",
}


def nearest(name: str, names: list[str]) -> str:
    """Gives the part of a message that lists the three most similar names, and all names if there are not too many."""
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(candidate) for candidate in close)}? " if close else ""
    known = f"known: {', '.join(names)}" if len(names) <= MAX_NAMES_SHOWN else f"there are {len(names)}"
    return hint + known


def describe_validation_error(error: ValidationError, keys_at: Callable[[list[str]], list[str]]) -> list[str]:
    """Turns each error of pydantic into one line: dotted key, what is asked, what was given.

    Args:
        error: what pydantic raised.
        keys_at: gives the right keys below a path of keys, for 'did you mean'.
    """
    # By key and, where forms of a value are asked for, the value: each form that a key may have is an error of its own.
    found: dict[tuple[str, str | None], list[str]] = {}
    for item in error.errors():
        # pydantic puts the branch of a union into the path; it is not in the user's file.
        branches = ("list[", "constrained", "literal[", "[key]")
        path = [str(part) for part in item["loc"] if not str(part).startswith(branches)]
        key = ".".join(path)
        if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            known = keys_at(path[:-1])
            hint = nearest(path[-1], known) if known else "no key is possible here"
            found[(key, None)] = [f"unknown key; {hint}"]
        elif item["type"] in {"missing", "missing_keyword_only_argument"}:
            found[(key, None)] = ["is missing"]
        elif item["type"] == "value_error":
            found[(key, None)] = [item["msg"].removeprefix("Value error, ")]
        else:
            found.setdefault((key, _as_yaml(item["input"])), []).append(_want(item))
    return [
        f"{key}: {forms[0]}" if value is None else f"{key}: must {' or '.join(forms)} (got {value})"
        for (key, value), forms in found.items()
    ]


def _want(item: ErrorDetails) -> str:
    """Says what pydantic asks for, after the word 'must', in the words of YAML."""
    if item["type"] in WANTS:
        return WANTS[item["type"]].format(**item.get("ctx", {})).replace(" 1 items", " 1 item")
    return re.sub(r"^\w+ should ", "", item["msg"])


def _as_yaml(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))


@dataclass(frozen=True)
class Registry:
    """The named choices of one kind: the modules of one package.

    Args:
        kind: what a choice is called in messages, for example 'model'.
        package: dotted name of the package whose modules are the choices.
        function: name of the function that each module defines. Its keyword-only arguments with a default are the
            choice's options, checked against their annotations; the others are given by the caller.
    """

    kind: str
    package: str
    function: str

    def names(self) -> list[str]:
        """All names, sorted. Imports none of the modules. Folders are not choices: they hold what choices share."""
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None
        return sorted(m.name for m in pkgutil.iter_modules(spec.submodule_search_locations) if not m.ispkg)

    def check(self, name: str) -> str:
        """Returns `name` if there is such a choice.

        Raises:
            ConfigError: there is none; the message gives the nearest right name and all names.
        """
        if name not in self.names():
            raise ConfigError(f"unknown {self.kind} {name!r}; {nearest(name, self.names())}")
        return name

    def file_of(self, name: str) -> Path:
        """Gives the file of a choice; imports nothing of it.

        Raises:
            ConfigError: there is none of this name.
        """
        spec = find_spec(f"{self.package}.{self.check(name)}")
        assert spec is not None and spec.origin is not None
        return Path(spec.origin)

    def module_of(self, name: str) -> ModuleType:
        """Imports the choice's module.

        Raises:
            ConfigError: there is none of this name.
        """
        return importlib.import_module(f"{self.package}.{self.check(name)}")

    def function_of(self, name: str) -> Callable[..., Any]:
        """Imports the choice's module and returns its function."""
        function: Callable[..., Any] = getattr(self.module_of(name), self.function)
        return function

    def call(self, name: str, options: Mapping[str, Any] | None = None, /, **context: Any) -> Any:
        """Calls the choice's function with the caller's context and the user's options.

        Raises:
            ConfigError: an option is unknown or has a wrong type or value; all of them in one message.
        """
        function = self.function_of(name)
        known = sorted(function.__kwdefaults__ or {})
        where = f"{self.kind} {name!r}: option "
        options = dict(options or {})
        lines = [
            f"{where}{key}: unknown; {nearest(key, known) if known else 'it has no options'}"
            for key in sorted(options.keys() - known)
        ]
        checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True, strict=True))(function)
        try:
            result = checked(**context, **{key: value for key, value in options.items() if key in known})
        except ValidationError as error:
            lines += [where + line for line in describe_validation_error(error, keys_at=lambda _: known)]
        if lines:
            raise ConfigError("\n".join(lines))
        return result


MODELS = Registry("model", "segpipe.models", "build_model")
LOSSES = Registry("loss", "segpipe.losses", "build_loss")
READERS = Registry("data format", "segpipe.data.readers", "read_source")
WEIGHTINGS = Registry("class-weighting scheme", "segpipe.data.class_weights.schemes", "compute_weights")
AUGMENTATIONS = Registry("augmentation", "segpipe.data.loading.augmentations", "build_transform")
METRICS = Registry("metric", "segpipe.metrics", "compute")
EVIDENCE = Registry("kind of evidence", "segpipe.metrics.evidence", "collect")
TABLES = Registry("table of an evaluation", "segpipe.metrics.tables", "tabulate")
