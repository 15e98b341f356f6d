"""The page about `params.yaml`: each section and key, from the JSON schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

INTRODUCTION = """# params.yaml

What each key means, which values it takes, and what it is where it is not written. The page is made from
`params.schema.json`, which editors read too. `segpipe check` names each value that cannot be used.
"""
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

Schema = Mapping[str, Any]


def describe_parameters(schema: Schema) -> str:
    """Gives the page as Markdown.

    Args:
        schema: of `params.yaml`, as `segpipe schema` prints it.
    """
    return "\n".join([INTRODUCTION, *_describe(schema, schema["$defs"], "", 1)])


def _describe(part: Schema, parts: Mapping[str, Schema], path: str, level: int) -> Iterator[str]:
    """Gives a section's heading, its keys, and the sections below it."""
    if path:
        yield f"{'#' * min(level, 4)} {path}\n"
        yield part.get("description", "") + "\n"
        for key, value in part["properties"].items():
            default = _default(value, key in part.get("required", ()))
            yield f"`{key}`\n:   *{_values(value)}; {default}.* {_text(value)}\n"
    for key, value in part["properties"].items():
        for name, suffix in _sections_in(value):
            yield from _describe(parts[name], parts, f"{path}.{key}{suffix}".lstrip("."), level + 1)


def _sections_in(value: Schema) -> Iterator[tuple[str, str]]:
    """Gives the sections of which a value consists, and what a path to them adds to the key."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], ""
    for one in value.get("anyOf", ()):
        yield from _sections_in(one)
    if "items" in value:
        yield from ((name, "[]" + suffix) for name, suffix in _sections_in(value["items"]))
    for one in value.get("patternProperties", {}).values():
        yield from ((name, ".NAME" + suffix) for name, suffix in _sections_in(one))


def _values(value: Schema) -> str:
    """Says which values a key takes."""
    if "$ref" in value:
        return "a section"
    if "anyOf" in value:
        return " or ".join(_values(one) for one in value["anyOf"])
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    kind = value.get("type", "any value")
    if "prefixItems" in value:
        return f"[{', '.join(_values(one) for one in value['prefixItems'])}]"
    if kind == "array":
        return f"list of {_values(value.get('items', {}))}"
    if kind == "object":
        return "mapping"
    limits = [f"{sign} {value[key]}" for key, sign in LIMITS.items() if key in value]
    return " ".join([kind, ", ".join(limits)]).strip()


def _default(value: Schema, is_required: bool) -> str:
    if is_required:
        return "must be written"
    return f"default `{json.dumps(value['default'], ensure_ascii=False)}`" if "default" in value else "default empty"


def _text(value: Schema) -> str:
    """Gives a description as one line, with a capital first letter where it begins with a word."""
    text = " ".join(str(value.get("description", "")).split())
    return text[:1].upper() + text[1:]
