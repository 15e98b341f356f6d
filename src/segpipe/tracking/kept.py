"""Keeps the lineage of a training next to its journal: when MLflow gets the run, the working tree may be another."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from segpipe.files import whole_folder
from segpipe.tracking.journal import Journal

KEPT = "lineage"  # a folder next to the journal
TAGS_FILE, FILES = "tags.json", "files"  # in it


@dataclass(frozen=True)
class Lineage:
    """What a training came from, as `segpipe.tracking.lineage` gives it.

    Attributes:
        tags: commit, recipe, DVC's hashes, environment.
        files: by name.
    """

    tags: Mapping[str, str]
    files: Mapping[str, bytes]


def keep_lineage(journal: Journal, lineage: Lineage) -> Lineage:
    """Keeps the lineage of an attempt when it begins; gives the kept one when the attempt goes on.

    Args:
        journal: begun.
        lineage: as it is now.
    """
    if (kept := read_kept(journal)) is not None:
        return kept
    with whole_folder(journal.folder / KEPT) as folder:
        for name, content in lineage.files.items():
            path = folder / FILES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        document = {"attempt": journal.attempt, "tags": dict(lineage.tags)}
        (folder / TAGS_FILE).write_text(json.dumps(document), encoding="utf-8")
    return lineage


def read_kept(journal: Journal) -> Lineage | None:
    """Gives the lineage of a journal's attempt; None where none is kept, or it is damaged.

    Raises:
        FileNotFoundError: there is no journal, or no line of it can be read.
    """
    attempt, folder = journal.attempt, journal.folder / KEPT
    try:
        document = json.loads((folder / TAGS_FILE).read_text(encoding="utf-8"))
        if document["attempt"] != attempt:
            return None
        tags = {str(name): str(value) for name, value in document["tags"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    top = folder / FILES
    files = {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    return Lineage(tags, files)
