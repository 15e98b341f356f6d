"""`segpipe clean`: lists, then deletes, the files that no stage will read again.

They are left by killed stages, by trainings that were given up, and by trainings that DVC has recorded.
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.cli.arguments import guide
from segpipe.cli.table import table
from segpipe.config.params import load_config
from segpipe.config.train import Train
from segpipe.errors import StoreError
from segpipe.places import BUILD, CHECKPOINTS, DATASET, LAST_DATASET, MODEL, MODEL_FILE, TRAINING_FILE
from segpipe.stages.stage import writing_alone

BYTES_PER_MB = 1_000_000
SIGNATURE_CHARS = 12


@dataclass(frozen=True)
class LeftOver:
    """Something that no stage will read again.

    Attributes:
        path: a file or a folder.
        why: the reason why no stage needs it.
        output: the output of the stage that wrote it; the stage holds this output's lock while it runs.
    """

    path: Path
    why: str
    output: Path

    @property
    def files(self) -> list[Path]:
        """The files that it is made of."""
        return [path for path in (self.path, *self.path.rglob("*")) if path.is_file()]

    @property
    def num_bytes(self) -> int:
        """The bytes that its deletion frees."""
        return sum(found.st_size for path in self.files if (found := _look_at(path)))

    def describe(self) -> tuple[str, str, str, str]:
        """Gives size, day of the last change, path and reason as text."""
        day = time.strftime("%Y-%m-%d", time.localtime(_last_change(self.path)))
        parts = (part[:SIGNATURE_CHARS] + "…" if len(part) == 2 * 32 else part for part in self.path.parts)
        return f"{self.num_bytes / BYTES_PER_MB:.1f}", day, "/".join(parts), self.why

    def delete(self) -> None:
        """Deletes it."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `clean` to the command."""
    clean = commands.add_parser("clean", help="list the files that no stage will read again, and delete them")
    clean.add_argument("--yes", action="store_true", help="delete the listed files without a question")
    guide(clean, "clean", "docs/operations.md")
    clean.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    settings = load_config().train
    found, busy = [], set()
    for left_over in _find(settings):
        if left_over.output in busy or _is_held(left_over.output):
            busy.add(left_over.output)
        else:
            found.append(left_over)
    for output in sorted(busy):
        print(f"{output} is being written by a stage; its files are not listed. Run `segpipe clean` again later")
    if not found:
        print("there is nothing to delete")
        return
    print("\n".join(table([("MB", "changed", "path", "why it is not needed"), *(one.describe() for one in found)])))
    total = sum(one.num_bytes for one in found) / BYTES_PER_MB
    if not options.yes and not _is_confirmed(f"delete {len(found)}, {total:.1f} MB?"):
        print("nothing is deleted; `segpipe clean --yes` deletes the listed files")
        return
    for output in sorted({one.output for one in found}):
        # A stage may have run since the list was made, and may need some of the files now.
        with writing_alone(output):
            for one in {*_find(settings)} & {one for one in found if one.output == output}:
                one.delete()
    print(f"{total:.1f} MB are deleted")


def _is_confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:  # Ctrl-D
        print()
        return False


def _is_held(output: Path) -> bool:
    try:
        with writing_alone(output):
            return False
    except StoreError:
        return True


def _find(settings: Train) -> Iterator[LeftOver]:
    """Gives the files and folders that no stage needs.

    Args:
        settings: `train` of `params.yaml`.
    """
    half = "unfinished, from a stage that was killed"
    for path in sorted(BUILD.glob(".*.part")):
        if name := re.fullmatch(r"\.(.+)\.[a-z0-9_]+\.part", path.name):
            yield LeftOver(path, half, BUILD / name[1])
    for path in sorted(LAST_DATASET.rglob(".*.part")):
        yield LeftOver(path, half, DATASET)
    folders = (path for path in CHECKPOINTS.glob("*") if path.is_dir())
    model, is_continued = _read(MODEL / MODEL_FILE).get("signature"), False
    for folder in sorted(folders, key=_last_change, reverse=True):
        is_asked = settings.describes(_settings_of(folder))
        if folder.name != model and not is_asked:
            yield LeftOver(folder, "a training with other settings than params.yaml", MODEL)
        elif folder.name != model and is_continued:
            yield LeftOver(folder, "a training with the settings of params.yaml, but older code or data", MODEL)
        else:
            yield from _find_in(folder, half)
        is_continued |= is_asked  # the next `dvc repro` continues it


def _find_in(folder: Path, half: str) -> Iterator[LeftOver]:
    """Gives the files that no stage needs in the folder of a training that is kept."""
    from segpipe.tracking.recorded import is_recorded

    for path in sorted(folder.rglob(".*.part")):
        yield LeftOver(path, half, MODEL)
    if is_recorded(folder):
        for path in sorted(folder.glob("checkpoint*")):
            yield LeftOver(path, "from a training that DVC has recorded", MODEL)


def _last_change(path: Path) -> float:
    """Gives a time in seconds since 1970."""
    return max((found.st_mtime for file in (path, *path.rglob("*")) if (found := _look_at(file))), default=0.0)


def _look_at(path: Path) -> os.stat_result | None:
    """Gives size and time of a file; None where it is gone: a training that runs replaces its checkpoints."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _settings_of(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = _read(folder / TRAINING_FILE).get("params", {}).get("train", {})
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
