"""Measures a registered model as it is served: with the code it was registered with.

A champion may be older than today's package, which may build its network differently or not at all. So each model runs
in a process of its own (`served_predictions`), which imports the package that `trust` has found for it. Its masks are
counted here, by today's definition of the metric, the same for challenger and champion.
"""

import contextlib
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from mlflow.models import Model as MlflowModel
from tqdm import tqdm

from segpipe.data.store import Store, evenly_spread
from segpipe.errors import IncomparableError, TrackingError
from segpipe.metrics.evidence import confusion
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.prediction import Prediction
from segpipe.registry.measuring import served_predictions
from segpipe.registry.measuring.confine import few_variables, without_network
from segpipe.registry.measuring.trust import Runnable

log = logging.getLogger(__name__)

# -E: no PYTHONPATH, which may lead to today's package, and no PYTHONWARNINGS, which may turn a warning into an error.
# -P: not the script's folder either, whose modules would hide others of their names.
# -B: nothing is written next to the package's code, which may lie in MLflow's own store.
INTERPRETER = (sys.executable, "-E", "-P", "-B")
NUM_LATENCY_IMAGES = 8
NUM_LATENCY_ROUNDS = 5
NUM_LINES_SHOWN = 12
OTHER_TASK = (
    "if these are other data, write `model_name: ANOTHER-NAME` under `register` in params.yaml and run `dvc repro`, as "
    "each name has a champion of its own; if the new classes replace the old ones, promote the new version by hand "
    "(`segpipe registry promote`)"
)
ADVICE = "promote by hand (`segpipe registry promote`), or train and register again (`dvc repro`)"


def classes_of_served(model: Path) -> tuple[str, ...]:
    """Reads the names of the classes that a model predicts, in the order of its indices.

    Args:
        model: folder of a downloaded MLflow model.

    Raises:
        IncomparableError: the model was not registered by segpipe.
    """
    if not (model / "MLmodel").is_file():
        raise IncomparableError(f"it is no MLflow model (no file MLmodel); {ADVICE}")
    try:
        names = (MlflowModel.load(str(model)).metadata or {}).get("classes")
    except Exception as error:  # MLflow's reader of YAML raises many types
        raise IncomparableError(f"its MLmodel cannot be read: {type(error).__name__}; {ADVICE}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise IncomparableError(f"it was not registered by segpipe (its MLmodel names no classes); {ADVICE}")
    return tuple(names)


def predict_served(model: Runnable, store: Store, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Predicts samples of a store one by one; only one mask at a time is in memory.

    Args:
        model: with the code that may run it.
        store: gives the images.
        indices: of the samples, in the order in which their masks are wanted.

    Yields:
        (height, width) uint8 masks in the model's own class indices.

    Raises:
        TrackingError: with the first mask, if the model was not registered by segpipe or cannot predict.
    """
    with _serve(model) as served:
        for index in indices:
            yield served.predict(store.read(index)[0])[0]


def confusions_of_served(model: Runnable, model_classes: Sequence[str], store: Store) -> ImageCounts:
    """Counts what a model predicts on every sample of a store, in the store's classes.

    The classes are matched by name. A class that the model does not have is never predicted.

    Args:
        model: with the code that may run it.
        model_classes: names of the model's class indices, as `classes_of_served` gives them.
        store: images and truth.

    Returns:
        Confusion matrices of the samples.

    Raises:
        IncomparableError: the model predicts a class that the store does not have.
        TrackingError: it cannot predict.
    """
    names = store.classes.names
    if unknown := [name for name in model_classes if name not in names]:
        other = f"it predicts {', '.join(unknown)}, which the data set does not have (it has {', '.join(names)})"
        raise IncomparableError(f"{other}; {OTHER_TASK}")
    to_store = np.array([names.index(name) for name in model_classes], np.uint8)
    parts = []
    with _bar("measuring", len(store)) as bar:
        for index, mask in enumerate(predict_served(model, store, range(len(store)))):
            if mask.max() >= len(to_store):
                what = f"it predicts class index {mask.max()} but names {len(to_store)} classes"
                raise IncomparableError(f"{what}; {ADVICE}")
            prediction = Prediction(to_store[mask][None], len(names))
            parts.append(confusion.collect(prediction, store.read(index)[1][None]))
            bar.update()
    return ImageCounts.join(parts)


@dataclass(frozen=True)
class Latency:
    """How long callers wait for an image, over images and rounds.

    Attributes:
        median_ms: of all.
        low_ms: a tenth of them is faster.
        high_ms: a tenth of them is slower.
    """

    median_ms: float
    low_ms: float
    high_ms: float

    @staticmethod
    def of(times_ms: Sequence[float]) -> "Latency":
        """Summarises the times of two or more calls."""
        tenths = statistics.quantiles(times_ms, n=10, method="inclusive")
        return Latency(statistics.median(times_ms), tenths[0], tenths[-1])


def latency_of_served(models: Sequence[Runnable], store: Store) -> list[Latency]:
    """Times models on this machine: how long a caller of `predict` waits for one image.

    Each model is loaded once, in a process of its own, on the device it chooses for serving. Then the models
    take turns on the same images, one image at a time, A B A B ...: if the machine slows down, all are slower. The
    images are `NUM_LATENCY_IMAGES` of the store, evenly spread, each `NUM_LATENCY_ROUNDS` times. The first round warms
    up and is not counted. Loading and the transport of pixels between the processes are not counted; MLflow's check of
    the input is counted where a model runs its own code.

    Args:
        models: each with the code that may run it.
        store: gives the images; at least one.

    Returns:
        For each model the latency over images and counted rounds.

    Raises:
        TrackingError: a model was not registered by segpipe or cannot predict.
    """
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(_serve(model)) for model in models]
        times_ms = []
        chosen = evenly_spread(len(store), NUM_LATENCY_IMAGES)
        calls = [(turn, index) for turn in range(NUM_LATENCY_ROUNDS) for index in chosen]
        with _bar("timing", len(calls)) as bar:
            for turn, index in calls:
                image = store.read(index)[0]
                row = [one.predict(image)[1] for one in served]
                if turn > 0:
                    times_ms.append(row)
                bar.update()
    return [Latency.of(column) for column in zip(*times_ms, strict=True)]


def _bar(what: str, total: int) -> "tqdm[Any]":
    """Gives a progress bar on standard error, which is shown only on a terminal."""
    return tqdm(desc=what, total=total, unit="image", disable=not sys.stderr.isatty(), leave=False)


@dataclass(frozen=True)
class _Served:
    """A model in a process of its own, loaded or still loading."""

    model: Runnable
    process: "subprocess.Popen[bytes]"
    complaints: IO[bytes]

    def predict(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], float]:
        """Gives the (height, width) mask of a (height, width, 3) image, and the milliseconds that it took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        height, width, _ = image.shape
        with contextlib.suppress(BrokenPipeError):  # the process has ended; the missing answer shows it below
            self.process.stdin.write(f"{height} {width}\n".encode() + image.tobytes())
            self.process.stdin.flush()
        milliseconds = self.process.stdout.readline()
        mask = self.process.stdout.read(height * width)
        if len(mask) < height * width:
            raise self._explain_end()
        return np.frombuffer(mask, np.uint8).reshape(height, width), float(milliseconds)

    def _explain_end(self) -> TrackingError:
        code = self.process.wait()
        self.complaints.seek(0)
        lines = self.complaints.read().decode(errors="replace").splitlines()[-NUM_LINES_SHOWN:]
        end = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        folder = self.model.model
        fix = ADVICE if self.model.is_export else f"install the packages of {folder / 'requirements.txt'}, or {ADVICE}"
        what = f"{folder}: its process ended before it gave a mask ({end}); {fix}"
        return TrackingError("\n  ".join([what, *lines]))


@contextlib.contextmanager
def _serve(model: Runnable) -> Iterator[_Served]:
    """Starts a model's process, and ends it."""
    command = [*INTERPRETER, str(served_predictions.__file__), str(model.model.resolve())]
    if model.sources is not None:
        command += [str(model.sources.resolve()), *([served_predictions.EXPORT] if model.is_export else [])]
    else:
        classes_of_served(model.model)
        command = [*_begin_foreign_command(), *command]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            env=few_variables(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            yield _Served(model, process, complaints)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:  # closes the pipes, the unread one too, and waits
                pass


def _begin_foreign_command() -> tuple[str, ...]:
    """Gives the first words of a command that runs a model's own code, and logs what that code can reach."""
    prefix = without_network()
    network = "no network" if prefix else "THE NETWORK, because this system does not allow to take it away"
    log.warning(
        "running a model's own code: it can read and write this user's files, has no secret variables, and has %s",
        network,
    )
    return prefix
