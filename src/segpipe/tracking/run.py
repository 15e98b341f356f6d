"""Writes a training as an MLflow run: found by its tags or created, filled from the journal, never twice."""

import json
import logging
import math
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow.entities import Metric, Param, ViewType
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.git_context import GitRunContext
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from segpipe.classes import ClassTable
from segpipe.errors import TrackingError
from segpipe.reports.drawing.overlay import side_by_side
from segpipe.tracking.client import connect
from segpipe.tracking.datasets import describe_inputs
from segpipe.tracking.default_store import artifact_location
from segpipe.tracking.journal import Entry, Journal
from segpipe.tracking.kept import Lineage, keep_lineage
from segpipe.tracking.lineage import LINEAGE, LINEAGE_FILE, RunLineage, searched_tags
from segpipe.tracking.names import metric_name, picture_name
from segpipe.tracking.tags import ATTEMPT, CREATED_MS, DVC_LOCK_SHA256, DVC_PREFIX, GIT_COMMIT, SIGNATURE, read_number

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

PREVIEW_PX = 256

GHOST_SECONDS = 600
RUN_DECISION = "decision"  # a folder of a run's files
SYSTEM_METRICS_SECONDS = 10
CLOSE_SECONDS = 60
# MLflow's pages group charts by what stands before the slash, in the alphabet's order, and those without one come last:
# so the curves come before the single values of the evaluation, `final_test/...` and `final_val/...`.
EPOCHS = "epochs/"
MARKER_METRIC = "train_loss"
MARKERS = (f"{EPOCHS}{MARKER_METRIC}", MARKER_METRIC)  # the second of runs of earlier releases
EXPERIMENT_KIND, TRAINING_KIND = "mlflow.experimentKind", "custom_model_development"  # the words of MLflow's pages


def evaluation_place(inference: str | None) -> str:
    """Gives the folder of a run's files that holds the out of `evaluate`.

    Args:
        inference: digest of how the model predicted; None for the network alone. One run's model may have been
            evaluated in several ways.
    """
    return "evaluation" if inference is None else f"evaluation-{inference}"


@dataclass(frozen=True)
class Description:
    """The content of a run, except its metrics.

    Attributes:
        experiment: the MLflow experiment.
        signature: identifies parameters, data and code.
        params: nested parameters; logged flat, dotted.
        tags: git commit, DVC hashes, environment. Those that people search by become tags; all are in `lineage.json`.
        dataset_name: name of the data set in the run's inputs, where `files` says nothing of its sources.
        dataset_digest: of its content.
        files: of its lineage, by name.
    """

    experiment: str
    signature: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    dataset_name: str
    dataset_digest: str
    files: Mapping[str, bytes]


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Gives nested parameters as dotted names and text."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{metric_name(key)}.")
        else:
            flat[f"{prefix}{metric_name(key)}"] = str(value)
    return flat


def find_run(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> str | None:
    """Gives the id of the newest run that has all these tags, or None; a deleted run is restored.

    A run with metrics is preferred. One without may be a ghost: MLflow created it, but its answer was lost.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    filter_string = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    newest_first = ["attributes.start_time DESC"]
    for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY):
        runs = client.search_runs([found.experiment_id], filter_string, view, max_results=10, order_by=newest_first)
        if runs:
            run_id = str(
                next((run for run in runs if not run.data.metrics.keys().isdisjoint(MARKERS)), runs[0]).info.run_id
            )
            if view == ViewType.DELETED_ONLY:
                client.restore_run(run_id)
                log.info("MLflow run %s was deleted and is restored", run_id)
            return run_id
    return None


def remove_ghosts(client: MlflowClient, run_id: str) -> None:
    """Removes other runs of a run's attempt: MLflow created them, but its answer was lost, so another was created.

    A young one may belong to another process that publishes the same at the same time: a later publish removes it.
    """
    run = client.get_run(run_id)
    if (attempt := run.data.tags.get(ATTEMPT)) is None:
        return
    young_ms = time.time() * 1000 - GHOST_SECONDS * 1000
    for ghost in client.search_runs([run.info.experiment_id], f"tags.`{ATTEMPT}` = '{attempt}'"):
        if ghost.info.run_id != run_id and (read_number(ghost.data.tags, CREATED_MS) or 0) < young_ms:
            client.set_terminated(ghost.info.run_id, "KILLED")
            client.delete_tag(ghost.info.run_id, ATTEMPT)  # so that `find_run` does not restore it
            client.delete_run(ghost.info.run_id)
            log.info("MLflow run %s was created and never used; it is removed", ghost.info.run_id)


def find_or_create_run(client: MlflowClient, description: Description, attempt: str, start_ms: int | None) -> str:
    """Gives the id of the run of this attempt; creates it if it does not exist."""
    run_id = find_run(client, description.experiment, {ATTEMPT: attempt})
    if run_id is None:
        run_id = _create_run(client, description, attempt, start_ms)
    lineage = json.dumps(RunLineage.of(description.tags).to_json(), indent=2, sort_keys=True).encode()
    files = {**description.files, LINEAGE_FILE: lineage}
    _log_lineage(client, run_id, files)  # the store may have failed after the run was created
    return run_id


def _create_run(client: MlflowClient, description: Description, attempt: str, start_ms: int | None) -> str:
    experiment_id = _find_or_create_experiment(client, description.experiment)
    now = {CREATED_MS: str(time.time_ns() // 1_000_000)}  # the run's own start is the training's start
    own = {**searched_tags(description.tags), **now, SIGNATURE: description.signature, ATTEMPT: attempt}
    tags = {**standard_tags(description.tags), **own}
    run = client.create_run(experiment_id, start_time=start_ms, tags=tags, run_name=_run_name(description))
    run_id = str(run.info.run_id)
    params = [Param(name, value) for name, value in flatten(description.params).items()]
    client.log_batch(run_id, params=params)
    hashes = {n: v for n, v in description.tags.items() if n.startswith((DVC_PREFIX, DVC_LOCK_SHA256))}
    name, digest, files = description.dataset_name, description.dataset_digest, description.files
    in_channels = description.params["train"]["model"].get("in_channels", 3)
    client.log_inputs(run_id, describe_inputs(name, digest, in_channels, hashes, files))
    return run_id


def _find_or_create_experiment(client: MlflowClient, name: str) -> str:
    """Gives an experiment's id; marks it as one of trainings, or MLflow would ask which kind it is."""
    kind = {EXPERIMENT_KIND: TRAINING_KIND}
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name, artifact_location(client.tracking_uri, name), kind))
    if EXPERIMENT_KIND not in experiment.tags:  # of an earlier release
        client.set_experiment_tag(experiment.experiment_id, EXPERIMENT_KIND, TRAINING_KIND)
    return str(experiment.experiment_id)


def standard_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Gives the tags that MLflow's own pages show of a run: user, source, commit.

    MLflow would look for a commit where the program's file lies, and log the address of that clone's origin, which may
    hold a password; so the commit is the project's, and there is no address.

    Args:
        tags: the lineage.
    """
    standard = {name: str(value) for name, value in resolve_tags(ignore=[GitRunContext]).items()}
    source = Path(standard.get(MLFLOW_SOURCE_NAME, ""))
    if source.is_relative_to(Path.cwd()):
        standard[MLFLOW_SOURCE_NAME] = str(source.relative_to(Path.cwd()))
    if commit := tags.get(GIT_COMMIT):
        standard[MLFLOW_GIT_COMMIT] = commit
    return standard


def _log_lineage(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    there = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, LINEAGE)}
    if there >= {Path(name).parts[0] for name in files}:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder, LINEAGE)


def _run_name(description: Description) -> str:
    return f"{description.params['train']['model']['name']}-{description.signature[:8]}"


def ship(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    """Sends the entries that the run does not have yet; a run of an earlier release keeps its names of metrics."""
    now, earlier = ({metric.step for metric in client.get_metric_history(run_id, marker)} for marker in MARKERS)
    epochs_there, prefix = now | earlier, "" if earlier else EPOCHS
    images_there = _images_of(client, run_id) if any(entry.image for entry in entries) else set()
    for entry in entries:
        if entry.image is not None:
            key = picture_name(entry.name)
            if (key, entry.epoch) not in images_there and entry.image.exists():
                picture = _read_picture(entry.image)
                client.log_image(run_id, picture, key=key, step=entry.epoch, timestamp=entry.time_ms, synchronous=True)
        elif entry.epoch not in epochs_there:
            metrics = [
                Metric(f"{prefix}{name}", value, entry.time_ms, entry.epoch)
                for name, value in entry.metrics.items()
                if math.isfinite(value)
            ]
            # One call for all metrics of an epoch: if the marker is there, the others are too.
            client.log_batch(run_id, metrics=metrics)


def _images_of(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """Gives name and epoch of the pictures of a run, from MLflow's file names: NAME+step+EPOCH+timestamp+..."""
    images = set()
    for artifact in client.list_artifacts(run_id, "images"):
        name, found, rest = Path(artifact.path).name.partition("+step+")
        if found:
            images.add((name.replace("~", "/"), int(rest.partition("+")[0])))
    return images


def _read_picture(path: Path) -> Image.Image:
    """Reads a picture; a very thin one gets black edges, because MLflow's preview of 256 px would have no pixel."""
    with Image.open(path) as picture:
        picture.load()
    thinnest = -(-max(picture.size) // PREVIEW_PX)
    if min(picture.size) >= thinnest:
        return picture
    wide = Image.new(picture.mode, (max(picture.width, thinnest), max(picture.height, thinnest)))
    wide.paste(picture)
    return wide


class LiveRun:
    """Sends a training's journal to MLflow while it is written, from a thread of its own.

    If MLflow is down, the training continues, and `register` sends the missing entries.

    Args:
        journal: begun.
        description: of the run.
    """

    def __init__(self, journal: Journal, description: Description) -> None:
        self._journal, self._description = journal, description
        self._changed = threading.Event()
        self._closing = False
        self._monitor: SystemMetricsMonitor | None = None
        self._is_shipped = self._has_warned = False
        self.run_id: str | None = None
        self._thread = threading.Thread(target=self._work, name="segpipe-shipper", daemon=True)
        self._thread.start()
        self._changed.set()

    def notify(self) -> None:
        """Says that the journal has grown."""
        self._changed.set()

    def close(self, status: str, tags: Mapping[str, str]) -> None:
        """Sends the rest and ends the run; gives up after a minute."""
        self._closing = True
        self._changed.set()
        self._thread.join(CLOSE_SECONDS)
        if self._monitor is not None:
            self._monitor.finish()
        if self.run_id is None or not self._is_shipped or self._thread.is_alive():
            log.warning("the run is not complete in MLflow; the stage `register` will send the rest from the journal")
            return
        try:
            client = connect()
            for name, value in tags.items():
                client.set_tag(self.run_id, name, value)
            client.set_terminated(self.run_id, status)
        except (TrackingError, MlflowException, SQLAlchemyError) as error:
            log.warning("MLflow did not accept the end of the run; the stage `register` will send it: %s", error)

    def _work(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            is_last = self._closing
            try:
                self._ship()
                self._is_shipped = True
            except Exception as error:  # no error of MLflow or its store may end a training
                self._is_shipped = False
                if not self._has_warned:
                    log.warning("%s. The training continues; its journal is sent later", error)
                self._has_warned = True
            if is_last:
                return

    def _ship(self) -> None:
        client = connect()
        entries = self._journal.entries()
        if self.run_id is None:
            start_ms = entries[0].time_ms if entries else None
            self.run_id = find_or_create_run(client, self._description, self._journal.attempt, start_ms)
            client.update_run(self.run_id, status="RUNNING")
            log.info("MLflow run %s", self.run_id)
            self._monitor = SystemMetricsMonitor(
                self.run_id, sampling_interval=SYSTEM_METRICS_SECONDS, resume_logging=True
            )
            self._monitor.start()
        ship(client, self.run_id, entries)


class RunSink:
    """A training's `MetricSink`: writes to the journal, then wakes the thread that sends it.

    Args:
        journal: begun.
        live_run: sends it.
        classes: for the colours of the pictures.
    """

    def __init__(self, journal: Journal, live_run: LiveRun, classes: ClassTable) -> None:
        self._journal, self._live_run, self._classes = journal, live_run, classes

    def log_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Writes the metrics of a finished epoch."""
        self._journal.log_metrics(metrics, epoch)
        self._live_run.notify()

    def log_prediction(self, name: str, image: Pixels, truth: Pixels, prediction: Pixels, epoch: int) -> None:
        """Draws image, truth and prediction side by side, and saves the picture."""
        self._journal.log_image(name, side_by_side(image, [truth, prediction], self._classes), epoch)
        self._live_run.notify()


@contextmanager
def track(
    journal: Journal, description: Description, end_tags: dict[str, str], classes: ClassTable
) -> Iterator[RunSink]:
    """Tracks a training.

    A training that is interrupted or fails ends its run as KILLED or FAILED; when it continues, it is RUNNING again.

    Args:
        journal: begun.
        description: of the run.
        end_tags: tags that are set at the end; the body may add to them until then.
        classes: for the colours of the pictures.
    """
    lineage = keep_lineage(journal, Lineage(description.tags, description.files))
    live_run = LiveRun(journal, replace(description, tags=lineage.tags, files=lineage.files))
    status = "KILLED"
    try:
        yield RunSink(journal, live_run, classes)
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        live_run.close(status, end_tags)
