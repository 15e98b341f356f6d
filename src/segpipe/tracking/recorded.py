"""Keeps a training's checkpoints until DVC has recorded its result.

DVC deletes a stage's out before the stage runs, and records the result in `dvc.lock` only after the stage has ended. If
DVC is killed in between, the checkpoints give the result again without training.
"""

import hashlib
import json
import logging
from pathlib import Path

from segpipe.places import LOCK_FILE
from segpipe.tracking.journal import JOURNAL, Journal
from segpipe.tracking.lineage import read_yaml

log = logging.getLogger(__name__)

ONLY_TO_GO_ON = ("checkpoint*", ".checkpoint*.part")  # of a training's folder


def dvc_digest(folder: Path) -> str:
    """Gives the hash by which `dvc.lock` names a folder with this content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": _md5_of_file(path), "relpath": path.relative_to(folder).as_posix()} for path in files]
    text = json.dumps(sorted(listed, key=lambda entry: entry["relpath"].split("/")), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def is_recorded(folder: Path, root: Path = Path()) -> bool:
    """Whether a training is finished and its result stands in `dvc.lock`.

    Args:
        folder: the training's, with its journal.
        root: holds `dvc.lock`.
    """
    digest = Journal(folder).result
    stages = read_yaml(root / LOCK_FILE).get("stages")
    if digest is None or not isinstance(stages, dict):
        return False
    outs = [out for entry in stages.values() if isinstance(entry, dict) for out in entry.get("outs") or []]
    return any(isinstance(out, dict) and out.get("md5") == digest for out in outs)


def forget(folder: Path) -> None:
    """Removes a training's checkpoints; its journal stays."""
    for pattern in ONLY_TO_GO_ON:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def forget_recorded(checkpoints: Path, root: Path = Path()) -> None:
    """Removes the checkpoints of each training that DVC has recorded.

    Args:
        checkpoints: holds a folder for each training.
        root: holds `dvc.lock`.
    """
    for folder in sorted(path.parent for path in checkpoints.glob(f"*/{JOURNAL}")):
        if any(folder.glob(ONLY_TO_GO_ON[0])) and is_recorded(folder, root):
            forget(folder)
