"""Brings MLflow to what a finished training is: its run, its model, its version, the champion's alias.

Every step first looks whether its result is already there, by content (weights and evaluation), not by a remembered
id. So publishing twice changes nothing, a run or version that was deleted comes back, and outputs that DVC restored on
another machine appear in that machine's MLflow.
"""

import hashlib
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

import segpipe
from segpipe.config import Register
from segpipe.errors import StoreError, TrackingError
from segpipe.files import sha256_of_file
from segpipe.tracking.client import connect, mlflow_name
from segpipe.tracking.gate import UNKNOWN, Candidate, Decision, decide
from segpipe.tracking.history import read_history
from segpipe.tracking.journal import Journal
from segpipe.tracking.lineage import environment_tags, lineage_tags
from segpipe.tracking.run import SIGNATURE, WEIGHTS, Description, find_or_create_run, find_run, ship

log = logging.getLogger(__name__)

CHAMPION = "champion"
EVALUATION, MEAN_IOU, CLASS_TABLE = "segpipe.evaluation_digest", "segpipe.val_mean_iou", "segpipe.class_table"
DECISION, REASONS, DECIDED_BY = "segpipe.decision", "segpipe.reasons", "segpipe.decided_by"
EVALUATION_FILES = "segpipe.evaluation_files_sha256"
PROMOTED, KEPT = "promoted", "not promoted"
SERVED_WITH = ("numpy", "pydantic", "safetensors", "torch", "torchvision")
EXAMPLE_SHAPE = (1, 32, 48, 3)


@dataclass(frozen=True)
class Registration:
    """What the registry holds of a model, and why.

    Attributes:
        model_name: the registered model.
        version: its number there.
        decision: 'promoted' or 'not promoted'.
        reasons: why.
        champion: the version that the alias names now.
        mean_iou: on the validation split.
        weights_sha256: identifies the weights.
        evaluation_digest: identifies what they were measured on.
    """

    model_name: str
    version: str
    decision: str
    reasons: tuple[str, ...]
    champion: str | None
    mean_iou: float
    weights_sha256: str
    evaluation_digest: str

    def to_json(self) -> dict[str, Any]:
        """The registration as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Publication:
    """A registration, and where MLflow keeps what belongs to it.

    Attributes:
        registration: what was decided.
        experiment_id: of the run.
        run_id: the training's run.
        champion_before: the version that was the champion when the decision was made.
    """

    registration: Registration
    experiment_id: str
    run_id: str
    champion_before: str | None


@dataclass(frozen=True)
class Results:
    """The outs of train and evaluate, read.

    Attributes:
        model_folder: holds model.json and weights.safetensors.
        evaluation_folder: holds metrics.json, evaluation.json and the report.
        model: model.json.
        metrics: metrics.json.
        evaluation: evaluation.json.
    """

    model_folder: Path
    evaluation_folder: Path
    model: Mapping[str, Any]
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    @staticmethod
    def read(model_folder: Path, evaluation_folder: Path) -> "Results":
        """Reads and verifies both folders.

        Raises:
            StoreError: one is missing, damaged, or is of another training than the other.
        """
        try:
            model = json.loads((model_folder / "model.json").read_text(encoding="utf-8"))
            metrics = json.loads((evaluation_folder / "metrics.json").read_text(encoding="utf-8"))
            evaluation = json.loads((evaluation_folder / "evaluation.json").read_text(encoding="utf-8"))
            found = sha256_of_file(model_folder / "weights.safetensors")
        except (OSError, ValueError) as error:
            raise StoreError(f"nothing to register: {error}; run `dvc repro`") from error
        if not found == model["weights_sha256"] == evaluation["weights_sha256"]:
            raise StoreError(
                f"{model_folder} and {evaluation_folder} are of two trainings (sha256 of the weights); run `dvc repro`"
            )
        return Results(model_folder, evaluation_folder, model, metrics, evaluation)

    @property
    def val_mean_iou(self) -> float:
        """The number by which champions are chosen."""
        return float(self.metrics["val"]["mean_iou"])


def publish(results: Results, checkpoints: Path, settings: Register) -> Publication:
    """Makes MLflow hold the results, decides about the champion where that is still open, and reports.

    Args:
        results: of a finished training.
        checkpoints: the folder of journals; the run is sent from the journal where there is one.
        settings: name of the registered model and policy.

    Raises:
        TrackingError: MLflow cannot be reached or refuses.
    """
    client = connect()
    try:
        run_id = _ensure_run(client, results, checkpoints / results.model["signature"])
        model_id = _ensure_logged_model(client, run_id, results)
        _ensure_evaluation(client, run_id, model_id, results)
        version = _ensure_version(client, run_id, model_id, results, settings.model_name)
        registration, champion_before = _ensure_decision(client, version, results, settings)
        return Publication(registration, client.get_run(run_id).info.experiment_id, run_id, champion_before)
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(f"MLflow refused: {error}") from error


def _ensure_run(client: MlflowClient, results: Results, journal_folder: Path) -> str:
    model = results.model
    identity = {WEIGHTS: model["weights_sha256"], SIGNATURE: model["signature"]}
    run_id = find_run(client, model["experiment"], identity)
    if run_id is not None and client.get_run(run_id).info.status == "FINISHED":
        return run_id
    try:
        journal = Journal(journal_folder)
        attempt, entries = journal.attempt, journal.entries()
    except FileNotFoundError:
        attempt, entries = f"restored-{model['weights_sha256']}", read_history(results.model_folder)
    description = Description(
        experiment=model["experiment"],
        signature=model["signature"],
        params=model["params"],
        tags={**lineage_tags(), **environment_tags(model["environment"])},
        dataset_name=model["dataset"]["name"],
        dataset_digest=model["dataset"]["digest"],
    )
    run_id = find_or_create_run(client, description, attempt, entries[0].time_ms if entries else None)
    ship(client, run_id, entries)
    client.set_tag(run_id, WEIGHTS, model["weights_sha256"])
    client.set_terminated(run_id, "FINISHED", end_time=entries[-1].time_ms if entries else None)
    log.info("MLflow run %s was completed from the training's records", run_id)
    return run_id


def _ensure_logged_model(client: MlflowClient, run_id: str, results: Results) -> str:
    run = client.get_run(run_id)
    models = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    for model in models:
        if model.tags.get(WEIGHTS) == results.model["weights_sha256"] and str(model.status) == "READY":
            return str(model.model_id)
    tags = {WEIGHTS: results.model["weights_sha256"]}
    model = client.create_logged_model(run.info.experiment_id, results.model["model"]["name"], run_id, tags)
    with tempfile.TemporaryDirectory() as folder:
        _save_served_model(Path(folder) / "model", MlflowModel(run_id=run_id, model_id=model.model_id), results)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=int(results.model["best_epoch"]))])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _save_served_model(path: Path, model: MlflowModel, results: Results) -> None:
    """Writes the model as MLflow keeps it.

    Not `log_model`: that would load the model once to try the example, and torch with it.
    """
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
    )
    mlflow.pyfunc.save_model(
        path=str(path),
        mlflow_model=model,
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"model": str(results.model_folder)},
        code_paths=[str(Path(segpipe.__path__[0]))],
        signature=signature,
        input_example=np.zeros(EXAMPLE_SHAPE, np.uint8),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in SERVED_WITH],
        metadata={"classes": list(results.model["classes"]["names"])},
    )


def _ensure_evaluation(client: MlflowClient, run_id: str, model_id: str, results: Results) -> None:
    run = client.get_run(run_id)
    files = {
        path.relative_to(results.evaluation_folder).as_posix(): sha256_of_file(path)
        for path in sorted(results.evaluation_folder.rglob("*"))
        if path.is_file()
    }
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if run.data.tags.get(EVALUATION_FILES) == digest:
        return
    step, now = int(results.model["best_epoch"]), run.info.end_time or run.info.start_time
    metrics = [
        Metric(f"final_{split}/{name}", value, now, step, model_id=model_id, run_id=run_id)
        for split, scores in results.metrics.items()
        for name, value in {**scores, **{f"iou_{mlflow_name(c)}": v for c, v in scores["iou"].items()}}.items()
        if isinstance(value, float)
    ]
    client.log_batch(run_id, metrics=metrics)
    client.log_artifacts(run_id, str(results.evaluation_folder), "evaluation")
    client.log_artifact(run_id, str(results.model_folder / "class_weights.json"))
    client.set_tag(run_id, EVALUATION_FILES, digest)


def _ensure_version(
    client: MlflowClient, run_id: str, model_id: str, results: Results, model_name: str
) -> ModelVersion:
    identity = {
        WEIGHTS: results.model["weights_sha256"],
        EVALUATION: results.evaluation["evaluation_digest"],
    }
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    wanted = [f"name = '{model_name}'", *(f"tags.`{name}` = '{value}'" for name, value in identity.items())]
    if found := client.search_model_versions(" and ".join(wanted)):
        return found[0]
    tags = {
        **identity,
        MEAN_IOU: repr(results.val_mean_iou),
        CLASS_TABLE: results.evaluation["class_table"],
        **{f"segpipe.val_iou.{mlflow_name(name)}": f"{iou:.4f}" for name, iou in _labelled_ious(results).items()},
        "segpipe.dataset_digest": results.model["dataset"]["digest"],
        **lineage_tags(),
    }
    version = client.create_model_version(
        model_name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
    )
    log.info("registered as %s version %s", model_name, version.version)
    return version


def _labelled_ious(results: Results) -> dict[str, float]:
    return {name: iou for name, iou in results.metrics["val"]["iou"].items() if iou is not None}


def find_champion(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Gives the version that the alias names, or None."""
    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _ensure_decision(
    client: MlflowClient, version: ModelVersion, results: Results, settings: Register
) -> tuple[Registration, str | None]:
    name = settings.model_name
    champion = find_champion(client, name)
    champion_before = str(champion.version) if champion else None
    tags = version.tags
    if DECISION in tags and (tags[DECISION] == PROMOTED or tags.get(DECIDED_BY) == _grounds(champion, settings)):
        decision = Decision(tags[DECISION] == PROMOTED, tuple(json.loads(tags[REASONS])))
        champion_before = _champion_in(tags.get(DECIDED_BY, ""))
        is_alias_lost = decision.promoted and champion is None
    else:
        decision = decide(_candidate(version), _candidate(champion) if champion else None, settings.min_delta)
        is_alias_lost = False
        client.update_model_version(name, version.version, _describe(results, decision))
        client.set_model_version_tag(name, version.version, REASONS, json.dumps(decision.reasons))
        client.set_model_version_tag(name, version.version, DECIDED_BY, _grounds(champion, settings))
        if decision.promoted:
            client.set_registered_model_alias(name, CHAMPION, version.version)
        # Last: a version without this tag is decided about again.
        client.set_model_version_tag(name, version.version, DECISION, PROMOTED if decision.promoted else KEPT)
    if is_alias_lost:
        client.set_registered_model_alias(name, CHAMPION, version.version)
        log.info("the alias %s was lost and names version %s again", CHAMPION, version.version)
    champion = find_champion(client, name)
    registration = Registration(
        model_name=name,
        version=str(version.version),
        decision=PROMOTED if decision.promoted else KEPT,
        reasons=decision.reasons,
        champion=str(champion.version) if champion else None,
        mean_iou=results.val_mean_iou,
        weights_sha256=results.model["weights_sha256"],
        evaluation_digest=results.evaluation["evaluation_digest"],
    )
    return registration, champion_before


def _grounds(champion: ModelVersion | None, settings: Register) -> str:
    """What a refusal rests on besides the challenger: with another champion or policy it is decided about anew."""
    return f"champion {champion.version if champion else None}, min_delta {settings.min_delta:g}"


def _champion_in(grounds: str) -> str | None:
    """The version that `_grounds` names."""
    version = grounds.removeprefix("champion ").partition(",")[0]
    return version if version.isdecimal() else None


def _candidate(version: ModelVersion) -> Candidate:
    tags = version.tags
    try:
        return Candidate(str(version.version), float(tags[MEAN_IOU]), tags[EVALUATION], tags[CLASS_TABLE])
    except KeyError:
        # Registered by hand: nothing is known about it, so nothing can be compared with it.
        return Candidate(str(version.version), float("nan"), UNKNOWN, UNKNOWN)


def _describe(results: Results, decision: Decision) -> str:
    splits = list(results.metrics)
    rows = ["| | " + " | ".join(splits) + " |", "| --- |" + " --- |" * len(splits)]
    for key, label in (("mean_iou", "mIoU"), ("pixel_accuracy", "pixel accuracy")):
        rows.append(f"| {label} | " + " | ".join(f"{results.metrics[split][key]:.4f}" for split in splits) + " |")
    for name in results.model["classes"]["names"]:
        values = [results.metrics[split]["iou"][name] for split in splits]
        rows.append(f"| {name} | " + " | ".join("-" if v is None else f"{v:.4f}" for v in values) + " |")
    verdict = "Promoted" if decision.promoted else "Not promoted"
    return "\n".join([f"**{verdict}.** {' '.join(decision.reasons)}", "", *rows])


def fetch_champion(model_name: str, output: Path) -> tuple[str, Path]:
    """Downloads the champion's `model.json` and `weights.safetensors`.

    Returns:
        The version's number, and the folder that holds both files.

    Raises:
        TrackingError: there is no champion, or MLflow cannot be reached.
    """
    client = connect()
    champion = find_champion(client, model_name)
    if champion is None:
        raise TrackingError(f"MLflow holds no champion of {model_name!r}; run `dvc repro` first")
    try:
        address = f"models:/{model_name}/{champion.version}"
        folder = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(output)))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"version {champion.version} of {model_name!r} cannot be downloaded: {error}") from error
    description = next(folder.rglob("model.json"), None)
    if description is None:
        mend = "move the alias champion to another version, or name a folder by --model"
        raise TrackingError(f"version {champion.version} of {model_name!r} was not registered by segpipe; {mend}")
    return str(champion.version), description.parent
