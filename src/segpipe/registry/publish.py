"""Publishes a finished training in MLflow: its run, its model, its version, the champion's alias and card.

Every step first searches for its result by content (weights, evaluation, inference), not by a stored id. So publishing
twice changes nothing, a deleted run or version is made again, and outs that DVC restored on another machine appear in
that machine's MLflow.
"""

import base64
import hashlib
import importlib.metadata
import io
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import Schema, TensorSpec
from PIL import Image

from segpipe.code import PACKAGE
from segpipe.config.register import Register
from segpipe.documents import Publication, Registration
from segpipe.errors import ExportError, TrackingError
from segpipe.files import sha256_of_file
from segpipe.metrics.parts.scores import list_labels
from segpipe.places import CLASS_WEIGHTS
from segpipe.registry.describing.card import write_card
from segpipe.registry.exports import find_logged_model, list_exports, log_exports, make_exports
from segpipe.registry.ledger import KEPT, PROMOTED
from segpipe.registry.lock import hold_lock
from segpipe.registry.results import Results
from segpipe.registry.verdict import ensure_decision, weigh_unregistered
from segpipe.tracking.client import connect, refusals, retry_busy, search_all_versions
from segpipe.tracking.datasets import find_datasets
from segpipe.tracking.history import read_history
from segpipe.tracking.journal import Journal
from segpipe.tracking.kept import Lineage, read_kept
from segpipe.tracking.lineage import environment_tags, lineage_files, lineage_tags
from segpipe.tracking.names import FINAL_PREFIX, metric_name
from segpipe.tracking.run import (
    Description,
    evaluation_place,
    find_or_create_run,
    find_run,
    flatten,
    remove_ghosts,
    ship,
)
from segpipe.tracking.tags import (
    CLASS_TABLE,
    DATASET_DIGEST,
    EVALUATION_DIGEST,
    EVALUATION_FILES_SHA256,
    GIT_COMMIT,
    INFERENCE,
    LINEAGE_TAGS,
    SIGNATURE,
    VAL_IOU_PREFIX,
    VAL_MEAN_IOU,
    VAL_MEAN_IOU_INTERVAL,
    WEIGHTS_BYTES,
    WEIGHTS_SHA256,
)

log = logging.getLogger(__name__)

COMPARED_ONLY = "compared only"
NOTHING_REGISTERED = (
    "A DVC experiment registers nothing. To register this model, run `dvc exp apply` and then `make repro` (or "
    "`segpipe publish`); the gate decides then."
)
SERVED_WITH = (
    "numpy", "opencv-python-headless", "pillow", "pydantic", "safetensors", "segmentation-models-pytorch", "timm",
    "torch", "torchvision",
)  # fmt: skip
MODEL_TYPE = "semantic-segmentation"  # what MLflow's pages call it; the word that people search by
EXAMPLE_SIZE_WH = (48, 32)
# For people: what the signature's arrays of objects are.
FORMS = {
    "input": "a column `image` of encoded images, each as bytes or base64; or pixels, (N, H, W, 3) uint8 RGB",
    "output": "a PNG mask of class indices for each, as bytes or base64; or (N, H, W) uint8 class indices",
}


def publish(results: Results, checkpoints: Path, settings: Register) -> Publication:
    """Writes the results to MLflow, decides about the champion if that was not decided yet, and reports.

    Args:
        results: of a finished training.
        checkpoints: the folder of journals; if there is a journal, the run is sent from it.
        settings: name of the registered model, and the gate's policy.

    Raises:
        TrackingError: MLflow cannot be reached or refuses.
        ExportError: an export of `settings.export` cannot be made; then nothing is registered.
    """
    client = connect()
    incomplete = f"{settings.model_name!r} is not registered completely; the same command continues where it stopped"
    with refusals(incomplete):
        holder, commit = _find_holder(client, results, settings)
        missing = [form for form in settings.export if form not in list_exports(client, holder)]
    # Exported before anything is written: an export that is wrong stops the registration.
    with make_exports(results, missing, commit) as made, refusals(incomplete):
        # Each step may be made twice: if another process does the same at the same time, it searches again.
        run_id, model_id = retry_busy(lambda: _ensure_training(client, results, checkpoints))
        log_exports(client, holder or model_id, made)
        version = _ensure_version(client, run_id, model_id, results, settings.model_name)
        verdict = ensure_decision(client, version, results, settings)
        write_card(client, settings.model_name)
        registration = Registration(
            model_name=settings.model_name,
            version=str(version.version),
            decision=PROMOTED if verdict.is_promoted else KEPT,
            reasons=verdict.reasons,
            champion=verdict.champion,
            mean_iou=results.val_mean_iou,
            weights_sha256=results.model.weights_sha256,
            evaluation_digest=results.evaluation.evaluation_digest,
        )
        experiment_id = client.get_run(run_id).info.experiment_id
    return Publication(
        registration=registration,
        experiment_id=experiment_id,
        run_id=run_id,
        champion_before=verdict.champion_before,
        metrics=results.metrics,
        labels=list_labels(),
    )


def record_only(results: Results, checkpoints: Path, settings: Register) -> Registration:
    """Writes the training's run to MLflow, and says what the gate would decide; registers nothing.

    This is what a DVC experiment does: no version, no alias, no entry of the ledger.

    Args:
        results: as for `publish`.
        checkpoints: as for `publish`.
        settings: as for `publish`.

    Raises:
        TrackingError: MLflow cannot be reached or refuses.
    """
    client = connect()
    with refusals("the experiment's run is not recorded completely; the same command continues where it stopped"):
        retry_busy(lambda: _ensure_training(client, results, checkpoints))
        try:
            decision, champion = weigh_unregistered(client, results, settings)
            opinion = f"The gate would {'promote it' if decision.promoted else 'not promote it'}."
            reasons = (opinion, *decision.reasons)
        except (TrackingError, ExportError) as error:
            reasons, champion = (f"The gate could not compare it: {error}",), None
    return Registration(
        model_name=settings.model_name,
        version=None,
        decision=COMPARED_ONLY,
        reasons=(NOTHING_REGISTERED, *reasons),
        champion=champion,
        mean_iou=results.val_mean_iou,
        weights_sha256=results.model.weights_sha256,
        evaluation_digest=results.evaluation.evaluation_digest,
    )


def _ensure_training(client: MlflowClient, results: Results, checkpoints: Path) -> tuple[str, str]:
    """Gives the ids of the training's run and of its logged model."""
    run_id = _ensure_run(client, results, checkpoints / results.model.signature)
    remove_ghosts(client, run_id)
    model_id = _ensure_logged_model(client, run_id, results)
    _ensure_evaluation(client, run_id, model_id, results)
    return run_id, model_id


def _find_holder(client: MlflowClient, results: Results, settings: Register) -> tuple[str | None, str | None]:
    """Gives the logged model that holds or gets the exports, None where there is none, and the training's commit."""
    if not settings.export:
        return None, None
    run_id = find_run(client, results.model.experiment, _identity_of_run(results))
    commit = None if run_id is None else client.get_run(run_id).data.tags.get(GIT_COMMIT)
    version = _find_version(client, settings.model_name, results)
    if version is not None and (holder := find_logged_model(version)):
        return holder, commit
    return None if run_id is None else _find_logged_model(client, run_id, results), commit


def _identity_of_run(results: Results) -> dict[str, str]:
    return {WEIGHTS_SHA256: results.model.weights_sha256, SIGNATURE: results.model.signature}


def _ensure_run(client: MlflowClient, results: Results, journal_folder: Path) -> str:
    model = results.model
    run_id = find_run(client, model.experiment, _identity_of_run(results))
    if run_id is not None and client.get_run(run_id).info.status == "FINISHED":
        return run_id
    journal, kept = Journal(journal_folder), None
    try:
        attempt, entries, kept = journal.attempt, journal.entries(), read_kept(journal)
    except FileNotFoundError:
        attempt, entries = f"restored-{model.weights_sha256}", read_history(results.model_folder)
    lineage = kept or Lineage(lineage_tags(), lineage_files())
    description = Description(
        experiment=model.experiment,
        signature=model.signature,
        params=asdict(model.params),
        tags={**lineage.tags, **environment_tags(model.environment)},
        dataset_name=model.dataset.name,
        dataset_digest=model.dataset.digest,
        files=lineage.files,
    )
    run_id = find_or_create_run(client, description, attempt, entries[0].time_ms if entries else None)
    ship(client, run_id, entries)
    client.set_tag(run_id, WEIGHTS_SHA256, model.weights_sha256)
    client.set_terminated(run_id, "FINISHED", end_time=entries[-1].time_ms if entries else None)
    log.info("MLflow run %s was completed from the training's journal or history", run_id)
    return run_id


def _find_logged_model(client: MlflowClient, run_id: str, results: Results) -> str | None:
    run = client.get_run(run_id)
    models = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    for model in models:
        if _is_of(results, model.tags) and str(model.status) == "READY":
            return str(model.model_id)
    return None


def _ensure_logged_model(client: MlflowClient, run_id: str, results: Results) -> str:
    if found := _find_logged_model(client, run_id, results):
        return found
    run = client.get_run(run_id)
    tags = {WEIGHTS_SHA256: results.model.weights_sha256, **_inference_tag(results)}
    params = flatten(asdict(results.model.params))
    model = client.create_logged_model(
        run.info.experiment_id, results.model.model.name, run_id, tags, params, MODEL_TYPE
    )
    with tempfile.TemporaryDirectory() as folder:
        # MLflow keeps these files under the folder's name, where `trust.FILES` looks for them.
        files, served = Path(folder) / "model", Path(folder) / "served"
        results.copy_model(files)
        _save_served_model(served, MlflowModel(run_id=run_id, model_id=model.model_id), files, results)
        client.log_model_artifacts(model.model_id, str(served))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=results.model.best_epoch)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _is_of(results: Results, tags: Mapping[str, str]) -> bool:
    """Whether a logged model, or a version, has these weights and predicts in the same way."""
    return (tags.get(WEIGHTS_SHA256), tags.get(INFERENCE)) == (
        results.model.weights_sha256,
        results.evaluation.inference,
    )


def _inference_tag(results: Results) -> dict[str, str]:
    inference = results.evaluation.inference
    return {} if inference is None else {INFERENCE: inference}


def _save_served_model(path: Path, model: MlflowModel, files: Path, results: Results) -> None:
    """Writes the model in MLflow's format.

    Not by `log_model`, which would load torch and the model to try the example.
    """
    # An array of objects is the only signature that lets pixels, columns of bytes and columns of base64 through.
    anything = Schema([TensorSpec(np.dtype(object), (-1,))])
    mlflow.pyfunc.save_model(
        path=str(path),
        mlflow_model=model,
        python_model=str(PACKAGE / "serving/served_model.py"),
        artifacts={"model": str(files)},
        code_paths=[str(PACKAGE)],
        signature=ModelSignature(inputs=anything, outputs=anything),
        input_example=pd.DataFrame({"image": [_draw_example()]}),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in SERVED_WITH],
        metadata={"classes": list(results.model.classes.names), **FORMS},
    )


def _draw_example() -> str:
    """Gives a small black image as base64 of a PNG."""
    content = io.BytesIO()
    Image.new("RGB", EXAMPLE_SIZE_WH).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode("ascii")


def _ensure_evaluation(client: MlflowClient, run_id: str, model_id: str, results: Results) -> None:
    run = client.get_run(run_id)
    files = {
        path.relative_to(results.evaluation_folder).as_posix(): sha256_of_file(path)
        for path in sorted(results.evaluation_folder.rglob("*"))
        if path.is_file()
    }
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if run.data.tags.get(EVALUATION_FILES_SHA256) == digest:
        return
    step, now = results.model.best_epoch, run.info.end_time or run.info.start_time
    datasets = find_datasets(run.inputs.dataset_inputs)
    metrics = [
        Metric(f"{FINAL_PREFIX}{split}/{name}", value, now, step, model_id, *datasets.get(split, (None, None)), run_id)
        for split, scores in results.metrics.items()
        for name, value in {**scores, **{f"iou_{metric_name(c)}": v for c, v in scores["iou"].items()}}.items()
        if isinstance(value, float)
    ]
    client.log_batch(run_id, metrics=metrics)
    client.log_artifacts(run_id, str(results.evaluation_folder), evaluation_place(results.evaluation.inference))
    client.log_artifact(run_id, str(results.model_folder / CLASS_WEIGHTS.name))
    client.set_tag(run_id, EVALUATION_FILES_SHA256, digest)


def _ensure_version(
    client: MlflowClient, run_id: str, model_id: str, results: Results, model_name: str
) -> ModelVersion:
    """Gives the version of these weights and this evaluation; processes at the same time get the same version."""
    if found := _find_version(client, model_name, results):
        return found
    with hold_lock(client, model_name) as lease:
        if found := _find_version(client, model_name, results):
            return found
        try:
            retry_busy(lambda: client.create_registered_model(model_name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        scores = results.metrics["val"]
        tags = {
            **_lineage_of(client, run_id),
            **_identity(results),
            **_inference_tag(results),
            VAL_MEAN_IOU: repr(results.val_mean_iou),
            CLASS_TABLE: results.evaluation.class_table,
            **{f"{VAL_IOU_PREFIX}{metric_name(name)}": f"{iou:.4f}" for name, iou in _labelled_ious(results).items()},
            DATASET_DIGEST: results.model.dataset.digest,
            WEIGHTS_BYTES: str(results.weights_bytes),
        }
        if scores["mean_iou_low"] is not None:
            tags[VAL_MEAN_IOU_INTERVAL] = f"{scores['mean_iou_low']:.4f} to {scores['mean_iou_high']:.4f}"
        lease.check()
        version = client.create_model_version(
            model_name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
        )
    log.info("registered as %s version %s", model_name, version.version)
    return version


def _identity(results: Results) -> dict[str, str]:
    return {
        WEIGHTS_SHA256: results.model.weights_sha256,
        EVALUATION_DIGEST: results.evaluation.evaluation_digest,
    }


def _find_version(client: MlflowClient, model_name: str, results: Results) -> ModelVersion | None:
    versions = search_all_versions(client, model_name, **_identity(results))
    found = [version for version in versions if _is_of(results, version.tags)]
    return min(found, key=lambda version: int(version.version), default=None)


def _lineage_of(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Gives the lineage tags of the training's run: the working tree may have changed since the training."""
    tags = client.get_run(run_id).data.tags
    return {name: value for name, value in tags.items() if name.startswith(LINEAGE_TAGS)}


def _labelled_ious(results: Results) -> dict[str, float]:
    return {name: iou for name, iou in results.metrics["val"]["iou"].items() if iou is not None}
