"""Nested parameters as lines of a page."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def list_parameters(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Gives (dotted name, value) of each leaf; a string as it is, all else as JSON."""
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from list_parameters(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
