"""Predicts everything that a command line names: reading, predicting, and writing overlap.

One thread predicts, the caller's. Others read pictures ahead of it, and draw, encode and write behind it. All hold a
bounded number of pixels. The result does not depend on the threads.
"""

import errno
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from segpipe.classes import ClassTable
from segpipe.config.evaluate import Inference
from segpipe.documents import ImageMapping
from segpipe.inference.network import Network
from segpipe.prediction.ahead import Task, run_ahead
from segpipe.prediction.inputs import Input, Skipped, find_inputs
from segpipe.prediction.outputs import list_kinds, place_of, write_prediction
from segpipe.prediction.predicting import Predicted, Wanted, predict_all
from segpipe.prediction.reading import Stamp, read_all, stamp_of
from segpipe.prediction.record import Record, Row, open_record
from segpipe.prediction.shards import Shard
from segpipe.prediction.videos import count_frames

MAX_WRITTEN, MAX_WRITTEN_PX = 32, 1 << 25  # predictions that wait to be written
MAX_THREADS = 4
SECONDS_BETWEEN_LINES = 30.0

# A name that is too long, or that is a folder's and a file's.
ERRNOS_OF_NAME = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}

MASKS_ONLY = Wanted()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How pictures are predicted.

    Attributes:
        wanted: what is written besides masks, colours and overlays.
        every: of a video, each such frame is predicted.
        batch_size: pictures that are predicted at once, at most.
        is_fresh: predicts all again that the output folder holds.
        shard: the share of the images that is predicted; None for all, with the tables.
    """

    wanted: Wanted = MASKS_ONLY
    every: int = 1
    batch_size: int = 4
    is_fresh: bool = False
    shard: Shard | None = None


@dataclass(frozen=True)
class Done:
    """What a call did.

    Attributes:
        num_predicted: pictures that were predicted.
        num_present: pictures whose predictions were complete before.
        skipped: what could not be predicted.
    """

    num_predicted: int
    num_present: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Job:
    """What decides the content of every prediction.

    Attributes:
        weights_sha256: of the network.
        classes: that it predicts.
        inference: how it predicts.
        images: how the pictures are read.
        outputs: the folders that are written.
    """

    weights_sha256: str
    classes: ClassTable
    inference: Inference
    images: ImageMapping
    outputs: Sequence[str]

    @staticmethod
    def of(network: Network, wanted: Wanted) -> "Job":
        """Gives the job of a network."""
        return Job(
            network.weights_sha256, network.classes, network.inference, network.image_mapping, list_kinds(wanted)
        )

    def to_json(self) -> dict[str, object]:
        """The job as JSON gives it back when it is read: lists, no tuples."""
        images = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self.images).items()}
        return {
            **vars(self),
            "classes": self.classes.to_json(),
            "inference": self.inference.to_json(),
            "images": images,
        }


def predict_inputs(network: Network, arguments: Sequence[str], output: Path, options: Options) -> Done:
    """Predicts all pictures, and writes masks, pictures and tables; for a shard its pictures, and no tables.

    Args:
        network: the model.
        arguments: as for `find_inputs`.
        output: the folder for the predictions; a folder of an earlier call is completed.
        options: what is written, and how.

    Raises:
        PredictionError: the arguments name nothing, or the output folder holds something else.
    """
    inputs, skipped = find_inputs(arguments, output)
    if options.shard is not None:
        inputs, skipped = options.shard.choose(inputs), options.shard.choose(skipped)
    num_predicted = 0
    job = Job.of(network, options.wanted).to_json()
    with open_record(output, job, options.is_fresh, options.shard) as record:
        present = _Present(record, output, list_kinds(options.wanted))
        to_do = [one for one in inputs if one.is_video or not present(one.name, one.path, stamp_of(one.path))]
        with _Progress(_count(to_do, options.every)) as progress:
            for result in _run(network, to_do, output, options, record, present):
                if isinstance(result, Skipped):
                    skipped.append(result)
                else:
                    record.add(result)
                    num_predicted += 1
                progress.advance()
        skipped.sort(key=lambda one: one.path)  # so that the next call writes the same table
        if options.shard is None:
            record.write_tables(network.classes, inputs, skipped)
    return Done(num_predicted, present.count, tuple(skipped))


def _run(
    network: Network, inputs: Sequence[Input], output: Path, options: Options, record: Record, present: "_Present"
) -> Iterator[Row | Skipped]:
    """Chains the three steps; each takes from the one before it when it has room."""
    num_threads = min(MAX_THREADS, os.cpu_count() or 1)
    reads = read_all(inputs, network.image_mapping, options.every, present, num_threads)
    predictions = predict_all(network.predictor, network.classes.num_classes, reads, options.batch_size, options.wanted)
    with ThreadPoolExecutor(num_threads, "write") as pool:

        def tasks() -> Iterator[Task[Row | Skipped]]:
            for one in predictions:
                if isinstance(one, Predicted):
                    yield (
                        pool,
                        one.held_px,
                        partial(_write, one, network.classes, output, record.temporary),
                    )
                else:
                    yield pool, 0, partial(_pass_on, one)

        yield from run_ahead(tasks(), MAX_WRITTEN, MAX_WRITTEN_PX)


def _write(one: Predicted, classes: ClassTable, output: Path, temporary: Path) -> Row | Skipped:
    """Writes a prediction; a name that the file system does not take is no reason to end the job."""
    try:
        return write_prediction(one, classes, output, temporary)
    except OSError as error:
        if error.errno not in ERRNOS_OF_NAME:
            raise
        return Skipped(
            one.scene.path, f"its mask cannot be written: {error.strerror}: {error.filename2 or error.filename}"
        )


def _pass_on(skipped: Skipped) -> Skipped:
    return skipped


class _Present:
    """Tells which predictions are complete, and counts them.

    Args:
        record: of the output folder.
        output: the folder.
        kinds: of files that each picture has.
    """

    def __init__(self, record: Record, output: Path, kinds: Sequence[str]) -> None:
        self._record, self._output, self._kinds = record, output, kinds
        self.count = 0

    def __call__(self, name: str, path: Path, stamp: Stamp | None) -> bool:
        """Whether the picture of this name was predicted from this state of the file, and its files are there."""
        row = self._record.find(name)
        if row is None or row.path != str(path.resolve()) or row.stamp != stamp:
            return False
        sizes = [stamp_of(self._output / place_of(kind, name, row.is_georeferenced)) for kind in self._kinds]
        is_present = all(size is not None and size[0] > 0 for size in sizes)
        self.count += is_present
        return is_present


def _count(inputs: Sequence[Input], every: int) -> int:
    return sum(count_frames(one.path, every) if one.is_video else 1 for one in inputs)


class _Progress:
    """Shows progress, speed and the time left: as a bar on a terminal, else as a line now and then.

    Args:
        total: pictures; the frames of a video are counted by its header.
    """

    def __init__(self, total: int) -> None:
        self._bar = tqdm(
            total=total,
            leave=False,
            disable=not sys.stderr.isatty(),
            unit="image",
            bar_format="{n_fmt}/{total_fmt} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {rate_fmt}",
            dynamic_ncols=True,
        )
        self._total, self._num_done = total, 0
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Counts one more picture."""
        self._num_done += 1
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = self._num_done / (now - self._began)
            seconds_left = max(0, self._total - self._num_done) / rate
            log.info("%d of %d images, %.1f a second, %.0f s left", self._num_done, self._total, rate, seconds_left)
