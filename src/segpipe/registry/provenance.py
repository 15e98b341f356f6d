"""The origin of a version, from images to alias, as one document of plain values; and the record for `rebuild`."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.documents import ModelDescription, SourceDescription
from segpipe.errors import Problem, StoreError, TrackingError
from segpipe.metrics.parts.scores import CHIEF, list_labels
from segpipe.places import METRICS_FILE, REPORT_FILE, SOURCE_FILE
from segpipe.registry.champion import find_champion, identify
from segpipe.registry.ledger import Held, Ledger, read_ledger
from segpipe.registry.rebuilding.differences import Record
from segpipe.registry.versions import describe_entry, fetch_description, find_warnings, when
from segpipe.tracking.lineage import NO_PATCH, PATCH
from segpipe.tracking.run import LINEAGE, evaluation_place
from segpipe.tracking.tags import (
    DATASET_DIGEST,
    DVC_PREFIX,
    ENVIRONMENT_PREFIX,
    EVALUATION_DIGEST,
    GIT_COMMIT,
    GIT_DIRTY,
    INFERENCE,
    RECIPE,
    VAL_MEAN_IOU,
    WEIGHTS_SHA256,
    read_number,
    tags_below,
)


def trace_version(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    """Gives the document; a part that was not recorded is None or empty."""
    tags = version.tags
    ledger = read_ledger(client, version.name)
    champion = find_champion(client, version.name)
    held = identify(version)
    model = fetch_description(version)
    with _files_of_run(version) as folder:
        source = _read_source(folder / LINEAGE / SOURCE_FILE)
        report = _read(folder / LINEAGE / REPORT_FILE)
        # MLflow downloads a single file without its folders.
        metrics = _read(folder / METRICS_FILE) or {}
        patch = next((name for name in (PATCH, NO_PATCH) if (folder / LINEAGE / name).exists()), None)
    is_champion = champion is not None and champion.version == version.version
    return {
        "model_name": version.name,
        "version": str(version.version),
        "is_champion": is_champion,
        "is_pinned": is_champion and ledger.is_pinned,
        "warnings": find_warnings(client, ledger),
        "source": source,
        "data": tags_below(tags, DVC_PREFIX),
        "dataset_digest": tags.get(DATASET_DIGEST),
        "problems": report and [asdict(Problem.from_json(problem)) for problem in report["warnings"]],
        "splits": report and report["splits"],
        "class_weights": model.params.class_weights.get("weights", {}) if model else {},
        "params": model.params.train if model else {},
        "code": {
            "commit": tags.get(GIT_COMMIT),
            "recipe": tags.get(RECIPE),
            "is_dirty": tags.get(GIT_DIRTY) == "true",
            "patch": patch and f"{LINEAGE}/{patch}",
        },
        "environment": tags_below(tags, ENVIRONMENT_PREFIX),
        "run": _describe_run(client, version, model),
        "evaluation": metrics
        and {
            "evaluation_digest": tags.get(EVALUATION_DIGEST),
            "inference": tags.get(INFERENCE),
            "splits": _scores(metrics),
        },
        "weights_sha256": tags.get(WEIGHTS_SHA256),
        "decision": _describe_decision(ledger, held),
        "ledger": [describe_entry(sealed) for sealed in ledger.entries if held in _versions_in(sealed.entry)],
        "predecessors": _describe_predecessors(client, ledger, held),
    }


def _read_source(path: Path) -> dict[str, str | int] | None:
    try:
        source = SourceDescription.read(path, "train again")
    except StoreError:  # not there, or not of segpipe
        return None
    return {
        "name": source.name,
        "format": source.format,
        "licence": source.licence,
        "num_files": len(source.sha256),
    }


@contextmanager
def _files_of_run(version: ModelVersion) -> Iterator[Path]:
    """Downloads the lineage and the scores that the version's run keeps."""
    with tempfile.TemporaryDirectory() as folder:
        for place in (LINEAGE, f"{evaluation_place(version.tags.get(INFERENCE))}/{METRICS_FILE}"):
            if version.run_id:
                # The run may be deleted, or not written by segpipe.
                with suppress(MlflowException, OSError):
                    mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=place, dst_path=folder)
        yield Path(folder)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _describe_run(client: MlflowClient, version: ModelVersion, model: ModelDescription | None) -> dict[str, Any] | None:
    if not version.run_id:  # registered by hand
        return None
    try:
        run = client.get_run(version.run_id)
    except MlflowException:
        return None
    return {
        "run_id": version.run_id,
        "experiment": client.get_experiment(run.info.experiment_id).name,
        "started": when(run.info.start_time),
        "ended": when(run.info.end_time),
        "status": run.info.status,
        "best_epoch": model.best_epoch if model else None,
        "model": model.model.name if model else None,
    }


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        split: {
            "mean_iou": scores["mean_iou"],
            "low": scores.get("mean_iou_low"),
            "high": scores.get("mean_iou_high"),
            # An older version has no value of a newer metric.
            "others": {label: scores.get(name) for name, label in list_labels().items() if name != CHIEF},
            "iou": scores["iou"],
        }
        for split, scores in metrics.items()
    }


def _versions_in(entry: Any) -> tuple[Held | None, ...]:
    return entry.about, entry.champion_before, entry.champion_after


def _describe_decision(ledger: Ledger, held: Held) -> dict[str, Any] | None:
    entry = ledger.decision_about(held)
    if entry is None:
        return None
    return {
        "decision": entry.action,
        "reasons": list(entry.reasons),
        "decided": when(entry.time_ms),
        "by": entry.who,
        "evidence": dict(entry.evidence),
    }


def _describe_predecessors(client: MlflowClient, ledger: Ledger, held: Held) -> list[dict[str, Any]]:
    """The champions before the decision about this version, newest first."""
    reigns = [(held_then, start, end) for held_then, start, end in ledger.reigns() if held_then != held]
    entry = ledger.decision_about(held)
    decided_ms = entry.time_ms if entry else None
    found = []
    for earlier, start_ms, end_ms in reversed(reigns):
        if decided_ms is not None and start_ms > decided_ms:
            continue
        tags = _tags_of(client, ledger.model_name, earlier)
        decision = ledger.decision_about(earlier)
        found.append(
            {
                "version": earlier.version,
                "mean_iou": read_number(tags, VAL_MEAN_IOU),
                "commit": tags.get(GIT_COMMIT),
                "from": when(start_ms),
                "until": when(end_ms) if end_ms else None,
                "decision": " ".join(decision.reasons) if decision else None,
            }
        )
    return found


def _tags_of(client: MlflowClient, model_name: str, held: Held) -> Mapping[str, str]:
    try:
        version = client.get_model_version(model_name, held.version)
    except MlflowException:
        return {}
    return version.tags if identify(version) == held else {}


@contextmanager
def open_record(version: ModelVersion) -> Iterator[Record]:
    """Collects the record of a version that `rebuild` needs.

    Raises:
        TrackingError: it was not registered by segpipe, or its run was deleted.
    """
    model = fetch_description(version)
    if model is None:
        raise TrackingError(
            f"version {version.version} was not registered by segpipe, so nothing says how to rebuild it; choose "
            "another version (`segpipe registry list`)"
        )
    with _files_of_run(version) as folder:
        if not (folder / LINEAGE).is_dir():
            raise TrackingError(
                f"version {version.version}: its run {version.run_id} keeps no lineage (it was deleted, or is older "
                "than lineage); restore the run, or register the model again by `dvc repro`"
            )
        yield Record(str(version.version), version.tags, folder / LINEAGE, model)
