"""What an output folder holds: how it was predicted, and a row for each picture whose files are complete.

`job.json` says by which model and options. A call with others is refused, so that a folder never mixes two models. Each
picture's row is added to `.progress/rows.jsonl` after its files; so a call that was ended is taken up where it stopped.
`predictions.csv`, `legend.csv` and `skipped.csv` are written at the end.
"""

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from segpipe.classes import ClassTable
from segpipe.errors import PredictionError
from segpipe.files import naming, whole_file, write_json
from segpipe.prediction.inputs import Input, Skipped
from segpipe.prediction.videos import is_video_name

JOB_FILE, TABLE, LEGEND, SKIPPED = "job.json", "predictions.csv", "legend.csv", "skipped.csv"
# The folders, each with a file for a picture.
MASKS, COLORS, OVERLAYS = "masks", "colors", "overlays"
CONFIDENCE, PROBABILITIES = "confidence", "probabilities"
KINDS = (MASKS, COLORS, OVERLAYS, CONFIDENCE, PROBABILITIES)
PROGRESS = ".progress"
ROWS, PARTS, LOCK = "rows.jsonl", "parts", "lock"


@dataclass(frozen=True)
class Row:
    """A picture that was predicted.

    Attributes:
        name: of its outputs.
        path: of its file, absolute.
        stamp: bytes of the file, and time of its last change, ns.
        width_px: of the picture, upright.
        height_px: the same.
        areas_px: pixels of each class.
        mean_confidence: 0..1; None if it was not wanted.
        notes: what was done to the file's values.
        is_georeferenced: whether its outputs are GeoTIFFs; rows of before have PNGs.
    """

    name: str
    path: str
    stamp: tuple[int, int]
    width_px: int
    height_px: int
    areas_px: tuple[int, ...]
    mean_confidence: float | None
    notes: tuple[str, ...]
    is_georeferenced: bool = False


_ROWS = TypeAdapter(Row)


class Record:
    """The rows of an output folder; `open_record` gives it.

    Args:
        output: the folder.
        rows: of complete predictions, by name.
        file: to which rows are added.
    """

    def __init__(self, output: Path, rows: dict[str, Row], file: TextIO) -> None:
        self._output, self._rows, self._file = output, rows, file

    @property
    def temporary(self) -> Path:
        """A folder for files that are not whole yet."""
        return self._output / PROGRESS / PARTS

    def find(self, name: str) -> Row | None:
        """Gives the row of a picture that was predicted."""
        return self._rows.get(name)

    def add(self, row: Row) -> None:
        """Adds a picture whose files are complete."""
        self._rows[row.name] = row
        self._file.write(json.dumps(asdict(row)) + "\n")
        self._file.flush()

    def write_tables(self, classes: ClassTable, inputs: Iterable[Input], skipped: Sequence[Skipped]) -> None:
        """Writes the tables for people: of all pictures in the folder, of the classes, of what this call skipped.

        Args:
            classes: of the masks.
            inputs: of this call.
            skipped: in this call.
        """
        rows = _leave_out_outdated(self._rows.values(), inputs, skipped)
        rows.sort(key=lambda row: row.name)
        _write_csv(self._output / TABLE, _list_columns(classes), (_flatten(row) for row in rows))
        legend = ([i, name, *color] for i, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)))
        _write_csv(self._output / LEGEND, ["index", "class", "red", "green", "blue"], legend)
        if skipped:
            _write_csv(self._output / SKIPPED, ["path", "reason"], ([str(one.path), one.reason] for one in skipped))
        else:
            (self._output / SKIPPED).unlink(missing_ok=True)


def _leave_out_outdated(rows: Iterable[Row], inputs: Iterable[Input], skipped: Iterable[Skipped]) -> list[Row]:
    """Leaves out pictures that were skipped now, so broke after they were predicted, and earlier names of others.

    Of a video that was skipped, the frames before the fault stay.
    """
    broken = {str(one.path.resolve()) for one in skipped if not is_video_name(one.path.name)}
    names: dict[str, set[str]] = {}
    for one in inputs:
        if not one.is_video:
            names.setdefault(str(one.path.resolve()), set()).add(one.name)
    return [row for row in rows if row.path not in broken and row.name in names.get(row.path, {row.name})]


def _list_columns(classes: ClassTable) -> list[str]:
    of_classes = [f"{kind} {name}" for kind in ("share", "px") for name in classes.names]
    return ["image", "path", "width_px", "height_px", "mean_confidence", *of_classes, "notes"]


def _flatten(row: Row) -> list[object]:
    num_px = row.width_px * row.height_px
    shares = [f"{area / num_px:.6f}" for area in row.areas_px]
    confidence = "" if row.mean_confidence is None else f"{row.mean_confidence:.4f}"
    start = [row.name, row.path, row.width_px, row.height_px, confidence]
    return [*start, *shares, *row.areas_px, "; ".join(row.notes)]


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    # A path that is not UTF-8 must not end the job at its end.
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


@contextlib.contextmanager
def open_record(output: Path, job: Mapping[str, Any], is_fresh: bool) -> Iterator[Record]:
    """Opens the record of an output folder, or begins one; holds a lock on the folder.

    Args:
        output: the folder.
        job: plain values that decide the content of every prediction.
        is_fresh: deletes the predictions that the folder holds.

    Raises:
        PredictionError: the folder is another's, or holds predictions of another job; another call writes to it.
    """
    progress = output / PROGRESS
    _refuse_others(output, job, is_fresh)
    try:
        progress.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise PredictionError(f"{output}: a part of this path is a file; choose another --output") from error
    lock = FileLock(progress / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise PredictionError(f"{output}: another `segpipe predict` writes to it; wait, or choose another") from error
    try:
        _refuse_others(output, job, is_fresh)  # again: a call that has just ended may have made it its own
        (progress / PARTS).mkdir(exist_ok=True)
        if is_fresh or not (output / JOB_FILE).exists():
            for name in (TABLE, SKIPPED, LEGEND):
                (output / name).unlink(missing_ok=True)
            (progress / ROWS).unlink(missing_ok=True)
            for kind in KINDS:
                shutil.rmtree(output / kind, ignore_errors=True)
            write_json(output / JOB_FILE, job)
        rows = _read_rows(progress / ROWS)
        with naming(progress / ROWS), (progress / ROWS).open("a", encoding="utf-8") as file:
            yield Record(output, rows, file)
    finally:
        shutil.rmtree(progress / PARTS, ignore_errors=True)
        lock.release()


def _refuse_others(output: Path, job: Mapping[str, Any], is_fresh: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise PredictionError(f"{output}: is a file; name a folder by --output")
    path = output / JOB_FILE
    if not path.exists():
        # A call that was killed at its beginning left a part of the file.
        if any(one.name != PROGRESS and not one.match(f".{JOB_FILE}.*.part") for one in output.iterdir()):
            raise PredictionError(f"{output}: holds other files, not predictions of this command; choose another")
        return
    if is_fresh:
        return
    try:
        found = json.loads(path.read_bytes())
        changed = [key for key in dict.fromkeys([*found, *job]) if found.get(key) != job.get(key)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PredictionError(f"{path}: {error}; choose another --output, or predict all again by --again") from error
    if changed:
        raise PredictionError(
            f"{output}: holds predictions that were made with other values of {', '.join(changed)} ({JOB_FILE}); "
            "choose another --output, or predict all again by --again"
        )


def _read_rows(path: Path) -> dict[str, Row]:
    """Reads the rows; of a call that was killed the last line may be cut, and is left out."""
    if not path.exists():
        return {}
    rows: dict[str, Row] = {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for line in whole.splitlines():
        with contextlib.suppress(ValidationError):  # that picture is predicted again
            row = _ROWS.validate_json(line)
            rows[row.name] = row
    if whole != content:
        os.truncate(path, len(whole))
    return rows
