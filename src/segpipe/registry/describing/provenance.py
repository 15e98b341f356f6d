"""The origin of a version, from images to alias, as one document; and the record for `rebuild`."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.documents import DatasetReport, ModelDescription, SourceDescription
from segpipe.errors import StoreError, TrackingError
from segpipe.files import sha256_of_file
from segpipe.metrics.parts.scores import CHIEF, list_labels
from segpipe.places import METRICS_FILE, REPORT_FILE, SOURCE_FILE, WEIGHTS_FILE
from segpipe.registry.champion import find_champion, identify
from segpipe.registry.ledger import Entry, Held, Ledger, read_ledger
from segpipe.registry.measuring.trust import FILES
from segpipe.registry.rebuilding.differences import Record
from segpipe.registry.versions import describe_entry, fetch_description, find_warnings, summarize, when
from segpipe.reports.documents.lineage import (
    EarlierChampion,
    TracedCode,
    TracedDecision,
    TracedEvaluation,
    TracedRun,
    TracedScores,
    TracedSource,
    VersionLineage,
)
from segpipe.tracking.lineage import LINEAGE, NO_PATCH, PATCH
from segpipe.tracking.registered import fetch_lineage
from segpipe.tracking.run import evaluation_place
from segpipe.tracking.tags import (
    DATASET_DIGEST,
    EVALUATION_DIGEST,
    GIT_COMMIT,
    GIT_DIRTY,
    INFERENCE,
    RECIPE,
    VAL_MEAN_IOU,
    read_number,
)


def trace_version(client: MlflowClient, version: ModelVersion) -> VersionLineage:
    """Gives the document; a part that was not recorded is None or empty."""
    tags, held = version.tags, identify(version)
    ledger = read_ledger(client, version.name)
    model = fetch_description(version)
    listed = summarize(version, None, find_champion(client, version.name))
    lineage = fetch_lineage(version)
    with _files_of_run(version) as folder:
        source = _read_source(folder / LINEAGE / SOURCE_FILE)
        report = _read_report(folder / LINEAGE / REPORT_FILE)
        # MLflow downloads a single file without its folders.
        metrics = _read(folder / METRICS_FILE)
        code = _describe_code(tags, folder / LINEAGE)
    return VersionLineage(
        model_name=version.name,
        version=listed.version,
        is_champion=listed.is_champion,
        is_pinned=listed.is_champion and ledger.is_pinned,
        warnings=find_warnings(client, ledger),
        source=source,
        data=lineage.data,
        dataset_digest=tags.get(DATASET_DIGEST),
        problems=report.problems if report else None,
        splits=report.splits if report else None,
        class_weights=model.params.class_weights.get("weights", {}) if model else {},
        params=model.params.train if model else {},
        code=code,
        environment=lineage.environment,
        run=_describe_run(client, version, model),
        evaluation=_describe_evaluation(tags, metrics) if metrics else None,
        weights_sha256=listed.weights_sha256,
        decision=_describe_decision(ledger, held),
        ledger=[describe_entry(sealed) for sealed in ledger.entries if held in _versions_in(sealed.entry)],
        predecessors=_describe_predecessors(client, ledger, held),
    )


def _read_source(path: Path) -> TracedSource | None:
    try:
        source = SourceDescription.read(path, "train again")
    except StoreError:  # not there, or not of segpipe
        return None
    return TracedSource(name=source.name, format=source.format, licence=source.licence, num_files=len(source.sha256))


def _read_report(path: Path) -> DatasetReport | None:
    try:
        return DatasetReport.read(path, "train again")
    except StoreError:  # as above
        return None


def _describe_code(tags: Mapping[str, str], lineage: Path) -> TracedCode:
    patch = next((name for name in (PATCH, NO_PATCH) if (lineage / name).exists()), None)
    return TracedCode(
        commit=tags.get(GIT_COMMIT),
        recipe=tags.get(RECIPE),
        is_dirty=tags.get(GIT_DIRTY) == "true",
        patch=patch and f"{LINEAGE}/{patch}",
    )


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


def _describe_run(client: MlflowClient, version: ModelVersion, model: ModelDescription | None) -> TracedRun | None:
    if not version.run_id:  # registered by hand
        return None
    try:
        run = client.get_run(version.run_id)
    except MlflowException:
        return None
    return TracedRun(
        run_id=version.run_id,
        experiment=client.get_experiment(run.info.experiment_id).name,
        started=when(run.info.start_time),
        ended=when(run.info.end_time),
        status=run.info.status,
        best_epoch=model.best_epoch if model else None,
        model=model.model.name if model else None,
    )


def _describe_evaluation(tags: Mapping[str, str], metrics: Mapping[str, Any]) -> TracedEvaluation:
    return TracedEvaluation(
        evaluation_digest=tags.get(EVALUATION_DIGEST),
        inference=tags.get(INFERENCE),
        splits={split: _scores(scores) for split, scores in metrics.items()},
    )


def _scores(scores: Mapping[str, Any]) -> TracedScores:
    return TracedScores(
        mean_iou=scores["mean_iou"],
        low=scores.get("mean_iou_low"),
        high=scores.get("mean_iou_high"),
        # An older version has no value of a newer metric.
        others={label: scores.get(name) for name, label in list_labels().items() if name != CHIEF},
        iou=scores["iou"],
    )


def _versions_in(entry: Entry) -> tuple[Held | None, ...]:
    return entry.about, entry.champion_before, entry.champion_after


def _describe_decision(ledger: Ledger, held: Held) -> TracedDecision | None:
    entry = ledger.decision_about(held)
    if entry is None:
        return None
    return TracedDecision(
        decision=entry.action,
        reasons=entry.reasons,
        decided=when(entry.time_ms),
        by=entry.who,
        evidence=entry.evidence,
    )


def _describe_predecessors(client: MlflowClient, ledger: Ledger, held: Held) -> list[EarlierChampion]:
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
            EarlierChampion(
                version=earlier.version,
                mean_iou=read_number(tags, VAL_MEAN_IOU),
                commit=tags.get(GIT_COMMIT),
                since=when(start_ms),
                until=when(end_ms) if end_ms else None,
                decision=" ".join(decision.reasons) if decision else None,
            )
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
        yield Record(str(version.version), version.tags, folder / LINEAGE, model, _hash_weights(version))


def _hash_weights(version: ModelVersion) -> str | None:
    """Gives the sha256 of the weights' file that the registry holds; None where it was deleted."""
    address = f"models:/{version.name}/{version.version}/{FILES / WEIGHTS_FILE}"
    with tempfile.TemporaryDirectory() as folder, suppress(MlflowException, OSError):
        return sha256_of_file(Path(mlflow.artifacts.download_artifacts(address, dst_path=folder)))
    return None
