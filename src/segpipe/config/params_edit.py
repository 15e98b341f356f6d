"""Changes values in the text of a parameter file: comments and the layout of DVC's own writer stay."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from segpipe.errors import ConfigError
from segpipe.places import PARAMS_FILE

COMMENT = re.compile(r"[ \t]*(?:[|>][-+\d]*)?[ \t]*(#.*)")  # `|` and `>` begin a text of several lines


def set_values(
    text: str, values: Mapping[str, object], comments: Mapping[str, str] | None = None, where: Path = PARAMS_FILE
) -> str:
    """Replaces values; the comment behind a key stays in its column.

    Args:
        text: of a parameter file with a line for each key, as `params.yaml` and the recipes are.
        values: the new ones by dotted key (`train.model.name`); the keys are there, and none lies below another.
        comments: by dotted key, what takes the place of the comment behind it.
        where: the file that holds the text, for messages.

    Raises:
        ConfigError: a key is not there.
    """
    document = YAML(typ="safe", pure=True).compose(text)
    edits = [
        _edit(text, *_find(document, dotted, where), value, (comments or {}).get(dotted))
        for dotted, value in values.items()
    ]
    for start, end, written in sorted(edits, reverse=True):  # from the end, so that the places before stay
        text = text[:start] + written + text[end:]
    return text


def _edit(text: str, key: Node, node: Node, value: object, comment: str | None) -> tuple[int, int, str]:
    """Gives where an entry begins and ends, and what takes its place."""
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    end = _end(text, key, node)
    old, column = _find_comment(text, key, node)
    if not _is_block(node):  # the comment behind the last line of a block stays too
        end = _line_end(text, end)
    indent = text[start : key.start_mark.index]
    head, *rest = [f"{indent}{written}" for written in format_value(key.value, value)]
    said = old if comment is None else f"# {comment}"
    head = f"{head.ljust(max(column - 1, 0))} {said}" if said else head
    return start, end, "\n".join([head, *rest])


def _find(document: Node | None, dotted: str, where: Path) -> tuple[Node, Node]:
    """Gives the nodes of a key and of its value."""
    key, value = None, document
    for part in dotted.split("."):
        pairs = value.value if isinstance(value, MappingNode) else []
        key, value = next(((k, v) for k, v in pairs if k.value == part), (None, None))
        if key is None or value is None:
            raise ConfigError(f"{where}: {dotted}: is missing; state every key, as the recipes do")
    assert key is not None and value is not None
    return key, value


def _is_block(node: Node) -> bool:
    return isinstance(node, MappingNode | SequenceNode) and not node.flow_style


def _end(text: str, key: Node, node: Node) -> int:
    """Where a value's own text ends; YAML counts the lines that follow a block as part of it."""
    if isinstance(node, MappingNode) and _is_block(node):
        return _end(text, *node.value[-1])
    if isinstance(node, SequenceNode) and _is_block(node):
        return _end(text, node.value[-1], node.value[-1])
    is_empty = node.start_mark.index == node.end_mark.index  # and then its place is that of what follows
    return key.end_mark.index + 1 if is_empty else len(text[: node.end_mark.index].rstrip())


def _find_comment(text: str, key: Node, node: Node) -> tuple[str, int]:
    """Gives an entry's comment, behind its key or else behind its value, and the column; '' and 0 if there is none."""
    places = [key.end_mark.index + 1] if _is_block(node) else [key.end_mark.index + 1, _end(text, key, node)]
    found = next((match for place in places if (match := COMMENT.match(text, place))), None)
    if found is None:
        return "", 0
    begin = found.start(1)
    return found.group(1), begin - text.rfind("\n", 0, begin) - 1


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def format_value(key: str, value: object) -> list[str]:
    """Gives the lines of an entry as DVC's writer lays them out."""
    yaml, written = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 10_000
    yaml.dump({key: value}, written)
    return [line.rstrip() for line in written.getvalue().splitlines()]
