"""What a training reports, first written to a local file: no server that is down can lose it or hold the training up.

The journal lies beside the checkpoint, outside DVC's outs: its times and speeds are different in each training, and
outs must not be.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.files import whole_file

JOURNAL, IMAGES = "journal.jsonl", "overlays"


@dataclass(frozen=True)
class Entry:
    """The report of one epoch, or one picture of it.

    Attributes:
        epoch: counted from 1.
        time_ms: when it was reported, milliseconds since 1970.
        metrics: name and value; empty for a picture.
        image: file of the picture; None for metrics.
        name: what the picture shows.
    """

    epoch: int
    time_ms: int
    metrics: Mapping[str, float]
    image: Path | None = None
    name: str = ""


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
            FileNotFoundError: the journal was not begun.
        """
        with (self.folder / JOURNAL).open(encoding="utf-8") as file:
            return str(json.loads(file.readline())["attempt"])

    def begin(self) -> None:
        """Starts an empty journal, or goes on with that of a training that was not finished."""
        if (self.folder / JOURNAL).exists() and not any("finished" in row for row in self._rows()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / JOURNAL) as temporary:
            temporary.write_text(json.dumps({"attempt": uuid.uuid4().hex}) + "\n", encoding="utf-8")

    def finish(self) -> None:
        """Notes that the training is complete: the next one with the same signature is another attempt."""
        self._append({"finished": True})

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Notes the metrics of a finished epoch."""
        self._append({"epoch": epoch, "time_ms": time.time_ns() // 1_000_000, "metrics": dict(metrics)})

    def log_image(self, name: str, image: npt.NDArray[np.uint8], epoch: int) -> None:
        """Saves and notes a picture, (height, width, 3) uint8 RGB."""
        file = f"{IMAGES}/{name}-{epoch:04d}.png"
        with whole_file(self.folder / file) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
        self._append({"epoch": epoch, "time_ms": time.time_ns() // 1_000_000, "image": file, "name": name})

    def entries(self) -> list[Entry]:
        """All entries; of an epoch that was reported twice, around an interruption, the first."""
        seen = set()
        entries = []
        for row in self._rows():
            key = (row.get("epoch"), row.get("name"))
            if "epoch" not in row or key in seen:
                continue
            seen.add(key)
            image = self.folder / row["image"] if "image" in row else None
            entries.append(Entry(row["epoch"], row["time_ms"], row.get("metrics", {}), image, row.get("name", "")))
        return entries

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for line in (self.folder / JOURNAL).read_text(encoding="utf-8").splitlines():
            # A kill may have cut a line off; what it told is told again.
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def _append(self, row: dict[str, object]) -> None:
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            # A kill may have left half a line.
            file.write(("" if _ends_with_newline(self.folder / JOURNAL) else "\n") + json.dumps(row) + "\n")


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
