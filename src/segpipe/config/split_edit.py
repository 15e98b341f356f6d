"""Writes a split into a parameter file: its values change, and comments and layout stay."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from segpipe.config.params import Config, load_config
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
    lines += [f"    {name}:\n{_list(groups, 4)}" for name, groups in lists.items()]
    return "\n".join(lines)


def _scalar(text: str) -> str:
    """Writes a string so that YAML reads a string: `0016E5` would be a number."""
    if not text.isprintable():
        return json.dumps(text)
    yaml, written = YAML(), io.StringIO()
    yaml.width = len(text) + LINE_LENGTH  # never two lines
    yaml.dump([text], written)
    return written.getvalue().removeprefix("- ").rstrip("\n")


def _list(items: Sequence[str], column: int) -> str:
    return "\n".join(f"{' ' * column}- {_scalar(item)}" for item in items)


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
        lists: the groups of val and, if there is one, test.
    """
    preprocess = _value(YAML(typ="safe", pure=True).compose(text), "preprocess")
    split = _value(preprocess, "split")
    if preprocess is None or split is None or preprocess.flow_style or split.flow_style:
        raise _TooUnusualError("preprocess and preprocess.split must have a line for each key")
    edits: list[tuple[int, int, str]] = []

    def put(section: MappingNode, key: str, items: Sequence[str] | None, scalar: str = "") -> None:
        """Replaces a value by a list or a scalar ('' for null); a comment after the key stays there."""
        found = next(((name, node) for name, node in section.value if name.value == key), None)
        if found is None:
            first = section.value[0][0].start_mark
            text_of_key = f"{key}:\n{_list(items, first.column)}" if items else f"{key}: {scalar}"
            if items or scalar:
                edits.append((first.index, first.index, f"{text_of_key}\n{' ' * first.column}"))
            return
        name, node = found
        lines = f"\n{_list(items, name.start_mark.column)}" if items else ""
        if isinstance(node, SequenceNode) and not node.flow_style:  # begins on a line of its own
            edits.append((text.rindex("\n", 0, node.start_mark.index), _end(node), lines))
            if scalar:
                edits.append((name.end_mark.index + 1, name.end_mark.index + 1, f" {scalar}"))
            return
        start, end = node.start_mark.index, _end(node)
        if start == end:  # an empty value, which is null
            start = end = name.end_mark.index + 1
        edits.append((start, end, scalar if start != end else f" {scalar}".rstrip()))
        if lines:
            line_end = text.find("\n", end)
            line_end = len(text) if line_end < 0 else line_end
            edits.append((line_end, line_end, lines))

    if grouping is not None:
        other = "group_column" if grouping.key == "group_pattern" else "group_pattern"
        put(preprocess, other, None)
        put(preprocess, grouping.key, None, _scalar(grouping.value))
    for name in KEPT_OUT:
        put(split, name, lists.get(name))
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + value + text[end:]
    return re.sub(r"[ ]+$", "", text, flags=re.MULTILINE)


def _value(node: Node | None, key: str) -> Any:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _end(node: Node) -> int:
    """Where a value's own text ends; YAML counts what follows a list with a line for each item as part of the list."""
    if isinstance(node, SequenceNode) and not node.flow_style:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def _check_edit(before: str, after: str, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> None:
    """Verifies that the edited text says what was meant, and keeps each comment."""
    yaml = YAML(typ="safe", pure=True)
    wanted = yaml.load(before)
    wanted["preprocess"]["split"] = {"val": lists["val"], "test": lists.get("test")}
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
