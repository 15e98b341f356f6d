"""Names of classes and samples that a later stage, a page or a file system cannot use."""

import unicodedata
from collections.abc import Sequence

from segpipe.classes import ClassTable
from segpipe.data.sources.source import RawSample
from segpipe.errors import Problem

KIND = "name-unusable"
MAX_CLASS_CHARS = 120
MAX_PART_BYTES = 200  # file systems allow 255; the names of pictures add the rest


def find_unusable_names(classes: ClassTable, samples: Sequence[RawSample]) -> list[Problem]:
    """Gives a problem for each name of a class or sample that cannot be used.

    A class's name may hold all visible characters: any script, slashes, blanks. A sample's name is also the name of its
    pictures.

    Args:
        classes: the class table.
        samples: all samples.
    """
    problems = []
    seen: dict[str, str] = {}
    for name in classes.names:
        same = unicodedata.normalize("NFC", name)
        what = _what_is_wrong(name)
        if what is None and len(name) > MAX_CLASS_CHARS:
            what = f"has {len(name)} characters, more than {MAX_CLASS_CHARS}"
        if what is None and same in seen:
            what = f"looks the same as class {seen[same]!r}, and only its bytes differ"
        seen.setdefault(same, name)
        if what is not None:
            fix = "Rename it in the source's class table, or in preprocess.classes of params.yaml"
            problems.append(Problem(KIND, f"class {name!r}", what, fix))
    for sample in samples:
        what = _what_is_wrong(sample.sample_id) or _why_no_path(sample.sample_id)
        if what is not None:
            problems.append(Problem(KIND, f"sample {sample.sample_id!r}", what, "Rename its files, or its entry"))
    return problems


def _what_is_wrong(name: str) -> str | None:
    if not name.strip():
        return "is empty"
    if name != name.strip():
        return "begins or ends with a blank"
    hidden = [character for character in name if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    return f"holds the control character U+{ord(hidden[0]):04X}" if hidden else None


def _why_no_path(sample_id: str) -> str | None:
    parts = sample_id.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in sample_id:
        return "is no plain path below a folder (a/b)"
    longest = max(len(part.encode()) for part in parts)
    return f"has a part of {longest} bytes, more than {MAX_PART_BYTES}" if longest > MAX_PART_BYTES else None
