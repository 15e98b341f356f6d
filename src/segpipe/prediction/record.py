"""What an output folder holds: how it was predicted, and a row for each picture whose files are complete.

`job.json` says by which model and options. A call with others is refused, so that a folder never mixes two models. Each
picture's row is added to `.progress/rows.jsonl` after its files; so a call that was ended is taken up where it stopped.
`predictions.csv`, `legend.csv` and `skipped.csv` are written at the end.

Several shards may write to one folder at once: each has rows, a lock and temporary files of its own. A call for all
images runs alone. It takes the shards' rows into the one file, and writes the tables.
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
from segpipe.prediction.shards import Shard
from segpipe.prediction.videos import is_video_name

JOB_FILE, TABLE, LEGEND, SKIPPED = "job.json", "predictions.csv", "legend.csv", "skipped.csv"
# The folders, each with a file for a picture.
MASKS, COLORS, OVERLAYS = "masks", "colors", "overlays"
CONFIDENCE, PROBABILITIES = "confidence", "probabilities"
KINDS = (MASKS, COLORS, OVERLAYS, CONFIDENCE, PROBABILITIES)
PROGRESS = ".progress"
ROWS, PARTS, LOCK = "rows", "parts", "lock"
ROWS_SUFFIX = ".jsonl"
OPENING_SECONDS = 60.0  # longer than another shard takes to open the folder


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
        temporary: a folder for files that are not whole yet.
    """

    def __init__(self, output: Path, rows: dict[str, Row], file: TextIO, temporary: Path) -> None:
        self._output, self._rows, self._file, self.temporary = output, rows, file, temporary

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
def open_record(output: Path, job: Mapping[str, Any], is_fresh: bool, shard: Shard | None = None) -> Iterator[Record]:
    """Opens the record of an output folder, or begins one; holds a lock on the folder, or on the shard.

    Args:
        output: the folder.
        job: plain values that decide the content of every prediction.
        is_fresh: deletes the predictions that the folder holds.
        shard: of this call; None for all images.

    Raises:
        PredictionError: the folder is another's, or holds predictions of another job; another call writes to it.
    """
    progress = output / PROGRESS
    _refuse_others(output, job, is_fresh)
    try:
        progress.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise PredictionError(f"{output}: a part of this path is a file; choose another --output") from error
    suffix = shard.suffix if shard else ""
    rows_file, parts = progress / f"{ROWS}{suffix}{ROWS_SUFFIX}", progress / f"{PARTS}{suffix}"
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as while_opening:
            opening = held if shard is None else while_opening
            opening.enter_context(_locked(output, LOCK, OPENING_SECONDS if shard else 0.0))
            if shard is None or is_fresh:
                for name in {path.name for path in progress.glob(f"{LOCK}-*")} - {f"{LOCK}{suffix}"}:
                    opening.enter_context(_locked(output, name))
            if shard is not None:
                held.enter_context(_locked(output, f"{LOCK}{suffix}"))
            _refuse_others(output, job, is_fresh)  # again: a call that has just ended may have made it its own
            if is_fresh or not (output / JOB_FILE).exists():
                _begin(output, job)
            rows = _read_all_rows(progress, rows_file)
            if shard is None:
                _gather(progress, rows_file)
            parts.mkdir(exist_ok=True)
        held.callback(shutil.rmtree, parts, ignore_errors=True)
        with naming(rows_file), rows_file.open("a", encoding="utf-8") as file:
            yield Record(output, rows, file, parts)


@contextlib.contextmanager
def _locked(output: Path, name: str, timeout_seconds: float = 0.0) -> Iterator[None]:
    lock = FileLock(output / PROGRESS / name, timeout=timeout_seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise PredictionError(f"{output}: another `segpipe predict` writes to it; wait, or choose another") from error
    try:
        yield
    finally:
        lock.release()


def _begin(output: Path, job: Mapping[str, Any]) -> None:
    """Deletes what a folder holds of an earlier job, and names the new one."""
    for name in (TABLE, SKIPPED, LEGEND):
        (output / name).unlink(missing_ok=True)
    for path in (output / PROGRESS).glob(f"{ROWS}*{ROWS_SUFFIX}"):
        path.unlink()
    for kind in KINDS:
        shutil.rmtree(output / kind, ignore_errors=True)
    write_json(output / JOB_FILE, job)


def _read_all_rows(progress: Path, own: Path) -> dict[str, Row]:
    """Reads the rows of all calls; the last line of another shard may not be whole yet, and is left out."""
    rows: dict[str, Row] = {}
    _cut_last_line(own)
    for path in _list_rows_files(progress):
        rows |= _read_rows(path)
    return rows


def _list_rows_files(progress: Path) -> list[Path]:
    """Gives the files with rows, that of all images first: it holds none that a shard has replaced."""
    return sorted(progress.glob(f"{ROWS}*{ROWS_SUFFIX}"), key=lambda path: (path.name != f"{ROWS}{ROWS_SUFFIX}", path))


def _gather(progress: Path, rows_file: Path) -> None:
    """Moves the shards' rows into the one file, while no shard runs; removes what killed shards have left."""
    for path in _list_rows_files(progress):
        if path != rows_file:
            _cut_last_line(path)
            with naming(rows_file), rows_file.open("ab") as file:
                file.write(path.read_bytes())
            path.unlink()
    for path in progress.glob(f"{PARTS}-*"):
        shutil.rmtree(path, ignore_errors=True)


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
    """Reads the whole lines of a file."""
    rows: dict[str, Row] = {}
    content = path.read_bytes()
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        with contextlib.suppress(ValidationError):  # that picture is predicted again
            row = _ROWS.validate_json(line)
            rows[row.name] = row
    return rows


def _cut_last_line(path: Path) -> None:
    """Removes the last line of a call that was killed if it is not whole."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):  # else the file keeps its time
            os.truncate(path, content.rfind(b"\n") + 1)
