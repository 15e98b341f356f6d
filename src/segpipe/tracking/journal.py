"""The journal: a training's reports, written to a local file first, so that a server that is down loses nothing.

The journal lies next to the checkpoint, outside DVC's outs: its times and speeds differ in each training, and outs must
not differ.

Each line names the attempt and has a check sum. A damaged line, the first one too, is skipped: only its content is
lost.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.files import naming, whole_file

log = logging.getLogger(__name__)

JOURNAL, DAMAGED_JOURNAL, EPOCH_PICTURES = "journal.jsonl", "journal.damaged", "overlays"
ATTEMPT_FILE = "attempt"  # the file that names the attempt when the journal is lost
CHECK, CHECK_CHARS = "check", 16


@dataclass(frozen=True)
class Entry:
    """The report of one epoch, or one picture of it.

    Attributes:
        epoch: counted from 1.
        time_ms: when it was reported, milliseconds since 1970.
        metrics: name and value; empty for a picture.
        image: file of the picture; None for metrics.
        name: of the picture.
    """

    epoch: int
    time_ms: int
    metrics: Mapping[str, float]
    image: Path | None = None
    name: str = ""


@dataclass(frozen=True)
class _Line:
    """A line of the journal: its attempt, and one of: an epoch's metrics, an epoch's picture, the end.

    Attributes:
        attempt: of the training.
        epoch: counted from 1; None if the line is about none.
        time_ms: when the epoch was reported, milliseconds since 1970.
        metrics: of the epoch.
        image: file of a picture of the epoch.
        name: of the picture.
        finished: the digest of the training's out.
    """

    attempt: str
    epoch: int | None = None
    time_ms: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    image: str | None = None
    name: str = ""
    finished: str | None = None


@dataclass(frozen=True)
class Journal:
    """An append-only file of entries; a `MetricSink`.

    Args:
        folder: holds the journal and its pictures.
    """

    folder: Path

    @property
    def attempt(self) -> str:
        """Identifies the training that wrote the journal; the same after an interruption.

        Raises:
            FileNotFoundError: there is no journal, or no line of it can be read.
        """
        lines = self._lines()
        if not lines:
            raise FileNotFoundError(f"{self.folder / JOURNAL} has no line that can be read")
        return lines[0].attempt

    @property
    def result(self) -> str | None:
        """The digest of the training's out; None where it is not finished."""
        lines = self._lines() if (self.folder / JOURNAL).exists() else []
        return next((line.finished for line in reversed(lines) if line.finished is not None), None)

    def begin(self, *, is_new_attempt: bool = False) -> None:
        """Starts an empty journal, or continues the present one.

        Args:
            is_new_attempt: replaces the present journal by an empty one.
        """
        path = self.folder / JOURNAL
        attempt = uuid.uuid4().hex
        if path.exists() and not is_new_attempt:
            if self._lines():
                return
            path.replace(self.folder / DAMAGED_JOURNAL)
            log.warning(
                "%s is damaged: no line of it can be read. It is renamed to %s and not used", path, DAMAGED_JOURNAL
            )
            attempt = self._read_attempt() or attempt
        with whole_file(self.folder / ATTEMPT_FILE) as temporary:
            temporary.write_text(f"{attempt}\n", encoding="ascii")
        with whole_file(path) as temporary:
            temporary.write_bytes(_to_line({"attempt": attempt}))

    def finish(self, digest: str) -> None:
        """Notes that the training is complete, with the digest of its out."""
        self._append({"finished": digest})

    def complete(self, history: Sequence[Mapping[str, float]]) -> None:
        """Adds the finished epochs whose lines are damaged.

        Args:
            history: `epoch` and metrics of each epoch.
        """
        known = {entry.epoch for entry in self.entries() if entry.image is None}
        for row in history:
            if row["epoch"] not in known:
                self.log_metrics({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]))

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Notes the metrics of a finished epoch."""
        self._append({"epoch": epoch, "time_ms": time.time_ns() // 1_000_000, "metrics": dict(metrics)})

    def log_image(self, name: str, image: npt.NDArray[np.uint8], epoch: int) -> None:
        """Saves and notes a picture, (height, width, 3) uint8 RGB."""
        file = f"{EPOCH_PICTURES}/{name}-{epoch:04d}.png"
        with whole_file(self.folder / file) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
        self._append({"epoch": epoch, "time_ms": time.time_ns() // 1_000_000, "image": file, "name": name})

    def entries(self) -> list[Entry]:
        """All entries; of an epoch that was reported twice because of an interruption, the first."""
        seen = set()
        entries = []
        for line in self._lines():
            if line.epoch is None or (line.epoch, line.name) in seen:
                continue
            seen.add((line.epoch, line.name))
            image = self.folder / line.image if line.image is not None else None
            entries.append(Entry(line.epoch, line.time_ms, line.metrics, image, line.name))
        return entries

    def _lines(self) -> list[_Line]:
        lines = []
        for line in (self.folder / JOURNAL).read_bytes().splitlines():
            # A kill may have cut a line off; the training writes it again.
            with contextlib.suppress(ValueError):
                lines.append(_from_line(line))
        return lines

    def _append(self, row: dict[str, object]) -> None:
        path = self.folder / JOURNAL
        with naming(path), path.open("ab") as file:
            # A kill may have left half a line.
            start = b"" if _ends_with_newline(path) else b"\n"
            file.write(start + _to_line({"attempt": self.attempt, **row}))
            file.flush()
            os.fsync(file.fileno())

    def _read_attempt(self) -> str | None:
        with contextlib.suppress(OSError, ValueError):
            attempt = (self.folder / ATTEMPT_FILE).read_text(encoding="ascii").strip()
            return attempt if re.fullmatch(r"[0-9a-f]{32}", attempt) else None
        return None


def _to_line(row: Mapping[str, object]) -> bytes:
    return json.dumps({**row, CHECK: _check_sum(row)}).encode() + b"\n"


def _from_line(line: bytes) -> _Line:
    """Reads a line.

    Raises:
        ValueError: it is not what was written.
    """
    row = json.loads(line)
    if not isinstance(row, dict) or row.pop(CHECK, None) != _check_sum(row):
        raise ValueError("is damaged")
    # A later release may write more.
    return _Line(**{one.name: row[one.name] for one in fields(_Line) if one.name in row})


def _check_sum(row: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:CHECK_CHARS]


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
