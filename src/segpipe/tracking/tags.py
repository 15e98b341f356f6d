"""What the tags of a version say, read with care: whoever may write to the registry may write anything there."""

import json
import math
from collections.abc import Mapping


def read_number(tags: Mapping[str, str], name: str) -> float | None:
    """Gives a tag's number; None where there is no such tag, or it is no finite number."""
    return number_in(tags.get(name, ""))


def number_in(text: str) -> float | None:
    """Gives the finite number that a text is; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_texts(tags: Mapping[str, str], name: str) -> list[str]:
    """Gives the texts of a tag that holds a JSON list; of anything else, one line that says so."""
    try:
        texts = json.loads(tags.get(name, "[]"))
    except (ValueError, RecursionError):
        texts = None
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    return [f"(tag {name} cannot be read: it is not what segpipe writes)"]
