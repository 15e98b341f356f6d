"""Writes a split into a parameter file: its values change, and comments and layout stay."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from segpipe.config.params import Config, load_config
from segpipe.config.params_edit import format_value, set_values
from segpipe.errors import ConfigError
from segpipe.files import whole_file

KEPT_OUT = ("val", "test")
LINE_LENGTH = 100


@dataclass(frozen=True)
class Grouping:
    """What names a sample's group.

    Args:
        key: `group_pattern` or `group_column`, of `preprocess` in the parameters.
        value: the regular expression or the column.
    """

    key: str
    value: str


def format_lines(grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> str:
    """Gives the lines of YAML that make a split, in the form that DVC's own writer does not change."""
    lines = ["preprocess:"]
    if grouping is not None:
        lines.append(f"  {grouping.key}: {_scalar(grouping.value)}")
    lines.append("  split:")
    lines += ["\n".join([f"    {name}:", *_items(groups, 4)]) for name, groups in lists.items()]
    return "\n".join(lines)


def _scalar(text: str) -> str:
    """Writes a string so that YAML reads a string: `0016E5` would be a number."""
    if not text.isprintable():
        return json.dumps(text)
    yaml, written = YAML(), io.StringIO()
    yaml.width = len(text) + LINE_LENGTH  # never two lines
    yaml.dump([text], written)
    return written.getvalue().removeprefix("- ").rstrip("\n")


def _items(items: Sequence[str], column: int) -> list[str]:
    return [f"{' ' * column}- {_scalar(item)}" for item in items]


def write_split(path: Path, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> None:
    """Changes the split in a parameter file and nothing else: comments and layout stay.

    Raises:
        ConfigError: the file is wrong, or laid out so that this cannot be done safely; it stays as it was.
    """
    load_config(path)
    text = path.read_text(encoding="utf-8")
    try:
        edited = edit_split(text, grouping, lists)
        _check_edit(text, edited, grouping, lists)
    except _TooUnusualError as error:
        raise ConfigError(
            f"{path}: cannot be edited safely ({error}); write these lines yourself:\n{format_lines(grouping, lists)}"
        ) from error
    with whole_file(path) as temporary:
        temporary.write_text(edited, encoding="utf-8")


class _TooUnusualError(Exception):
    """A layout that an edit might break."""


def edit_split(text: str, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> str:
    """Replaces the values of the split in the text of a parameter file.

    Args:
        text: of a valid parameter file.
        grouping: replaces the one that is there; None leaves it.
        lists: the groups of val and, if there is one, test; no groups at all are no test.
    """
    preprocess = _value(YAML(typ="safe", pure=True).compose(text), "preprocess")
    split = _value(preprocess, "split")
    if preprocess is None or split is None or preprocess.flow_style or split.flow_style:
        raise _TooUnusualError("preprocess and preprocess.split must have a line for each key")
    changes: dict[str, list[str] | str | None] = {f"split.{name}": list(lists[name]) or None for name in lists}
    changes |= {f"split.{name}": None for name in KEPT_OUT if name not in lists}
    if grouping is not None:
        changes |= {"group_pattern": None, "group_column": None, grouping.key: grouping.value}
    for key, value in changes.items():
        text = _put(text, f"preprocess.{key}", value)
    return text


def _put(text: str, dotted: str, value: list[str] | str | None) -> str:
    """Replaces a value, or adds it as the first of its section; nothing is added for null."""
    section, _, key = dotted.rpartition(".")
    node = YAML(typ="safe", pure=True).compose(text)
    for name in section.split("."):
        node = _value(node, name)
    assert isinstance(node, MappingNode)
    if _value(node, key) is not None:
        return set_values(text, {dotted: value})
    if value is None:
        return text
    first = node.value[0][0].start_mark
    indent = " " * first.column
    added = f"\n{indent}".join(format_value(key, value))
    return f"{text[: first.index]}{added}\n{indent}{text[first.index :]}"


def _value(node: Node | None, key: str) -> Any:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _check_edit(before: str, after: str, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> None:
    """Verifies that the edited text says what was meant, and keeps each comment."""
    yaml = YAML(typ="safe", pure=True)
    wanted = yaml.load(before)
    wanted["preprocess"]["split"] = {"val": lists["val"], "test": lists.get("test") or None}
    if grouping is not None:
        wanted["preprocess"] |= {"group_pattern": None, "group_column": None, grouping.key: grouping.value}
    try:
        if Config.model_validate(yaml.load(after)) != Config.model_validate(wanted):
            raise _TooUnusualError("the result would have another meaning")
    except (YAMLError, ValueError) as error:
        raise _TooUnusualError(str(error)) from error
    lost = [line for line in before.splitlines() if "#" in line and line[line.index("#") :] not in after]
    if lost:
        raise _TooUnusualError(f"a comment would be lost: {lost[0].strip()}")
