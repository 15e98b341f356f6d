"""Finds and describes the versions in the registry: for lists, and one version in full."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.documents import ModelDescription
from segpipe.errors import StoreError, TrackingError
from segpipe.places import MODEL_FILE
from segpipe.registry.champion import CHAMPION, find_champion, find_outside_change, identify
from segpipe.registry.exports import find_logged_model, list_exports
from segpipe.registry.ledger import MAX_DIGITS, Entry, Ledger, Sealed, read_ledger
from segpipe.registry.measuring.trust import FILES
from segpipe.reports.documents.versions import LedgerEntry, ListedVersion, ShownVersion, VersionList
from segpipe.tracking.client import search_newest_versions
from segpipe.tracking.names import FINAL_PREFIX, read_name
from segpipe.tracking.registered import fetch_lineage
from segpipe.tracking.tags import (
    DECISION,
    EVALUATION_DIGEST,
    GIT_COMMIT,
    GIT_DIRTY,
    MEGABYTE,
    REASONS,
    VAL_IOU_PREFIX,
    VAL_MEAN_IOU,
    VAL_MEAN_IOU_INTERVAL,
    WEIGHTS_BYTES,
    WEIGHTS_SHA256,
    number_in,
    read_number,
    read_texts,
)

UNDECIDED = "undecided"
TEST = f"{FINAL_PREFIX}test/"  # begins the names of the metrics of the test split
MAX_NUMBERS_SHOWN = 5


def find_version(client: MlflowClient, model_name: str, which: str) -> ModelVersion:
    """Gives a version by its number, or the champion.

    Args:
        client: of the store.
        model_name: the registered model.
        which: a number, or `champion`.

    Raises:
        TrackingError: there is none.
    """
    if which == CHAMPION:
        champion = find_champion(client, model_name)
        if champion is None:
            raise TrackingError(f"MLflow holds no champion of {model_name!r}; run `dvc repro` first")
        return champion
    number = which.removeprefix("v")
    try:
        if number.isdecimal() and len(number) <= MAX_DIGITS:
            return client.get_model_version(model_name, str(int(number)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    newest = search_newest_versions(client, model_name, MAX_NUMBERS_SHOWN)
    if not newest:
        raise TrackingError(f"MLflow has no version of {model_name!r}; run `dvc repro` first")
    known = ", ".join(str(version.version) for version in newest)
    raise TrackingError(f"{model_name!r} has no version {which!r}; choose one of the newest ({known}), or {CHAMPION!r}")


def when(time_ms: int | None) -> str:
    """Gives a time as readable text, in UTC; '' for none."""
    if time_ms is None:
        return ""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def list_versions(client: MlflowClient, model_name: str, limit: int | None = None) -> VersionList:
    """Gives the newest versions, newest first, with the ledger's champion and pin."""
    ledger = read_ledger(client, model_name)
    champion = find_champion(client, model_name)
    versions = search_newest_versions(client, model_name, limit)
    if champion is not None and all(version.version != champion.version for version in versions):
        versions.append(champion)
    return VersionList(
        model_name=model_name,
        champion=str(champion.version) if champion else None,
        is_pinned=ledger.is_pinned,
        warnings=find_warnings(client, ledger),
        versions=[summarize(version, ledger.decision_about(identify(version)), champion) for version in versions],
    )


def find_warnings(client: MlflowClient, ledger: Ledger) -> list[str]:
    """Lists the problems of ledger and alias."""
    outside = find_outside_change(client, ledger)
    return [f"the ledger was changed: {problem}" for problem in ledger.problems] + ([outside] if outside else [])


def summarize(version: ModelVersion, decided: Entry | None, champion: ModelVersion | None) -> ListedVersion:
    """Gives the columns of a list; the decision is the ledger's, because a decision by hand does not change the tag."""
    tags = version.tags
    low, high = read_interval(version)
    return ListedVersion(
        version=str(version.version),
        created=when(version.creation_timestamp),
        mean_iou=read_number(tags, VAL_MEAN_IOU),
        low=low,
        high=high,
        decision=decided.action if decided else tags.get(DECISION, UNDECIDED),
        commit=tags.get(GIT_COMMIT),
        is_dirty=tags.get(GIT_DIRTY) == "true",
        size_mb=size_mb(version),
        weights_sha256=tags.get(WEIGHTS_SHA256),
        evaluation_digest=tags.get(EVALUATION_DIGEST),
        is_champion=champion is not None and str(champion.version) == str(version.version),
    )


def read_interval(version: ModelVersion) -> tuple[float | None, float | None]:
    """Gives the 95% interval of a version's validation mIoU; None, None where it is not known."""
    low, _, high = version.tags.get(VAL_MEAN_IOU_INTERVAL, "").partition(" to ")
    return number_in(low), number_in(high)


def size_mb(version: ModelVersion) -> float | None:
    """Gives the size of a version's weights, megabytes."""
    num_bytes = read_number(version.tags, WEIGHTS_BYTES)
    return None if num_bytes is None else num_bytes / MEGABYTE


def describe_version(client: MlflowClient, version: ModelVersion) -> ShownVersion:
    """Gives all that the registry itself says of a version: scores, digests, lineage, decision, ledger."""
    ledger = read_ledger(client, version.name)
    tags = version.tags
    held = identify(version)
    decided = ledger.decision_about(held)
    listed = summarize(version, decided, find_champion(client, version.name))
    test, params = _read_run(client, version)
    return ShownVersion(
        **vars(listed),
        model_name=version.name,
        is_pinned=listed.is_champion and ledger.is_pinned,
        run_id=version.run_id,
        reasons=list(decided.reasons) if decided else read_texts(tags, REASONS),
        iou={
            read_name(n.removeprefix(VAL_IOU_PREFIX)): number_in(v)
            for n, v in tags.items()
            if n.startswith(VAL_IOU_PREFIX)
        },
        test=test,
        params=params,
        exports=_list_exports(client, version),
        tags=dict(sorted({**fetch_lineage(version).to_tags(), **tags}.items())),
        ledger=[describe_entry(sealed) for sealed in ledger.entries if sealed.entry.about == held],
        warnings=find_warnings(client, ledger),
    )


def _list_exports(client: MlflowClient, version: ModelVersion) -> list[str]:
    """Gives the formats of a version's exports; none where its files are deleted."""
    try:
        return list_exports(client, find_logged_model(version))
    except (MlflowException, OSError):
        return []


def _read_run(client: MlflowClient, version: ModelVersion) -> tuple[dict[str, float], dict[str, str]]:
    """Gives the scores on the test split and the parameters that a version's run holds; nothing where it is deleted."""
    if not version.run_id:  # registered by hand
        return {}, {}
    try:
        data = client.get_run(version.run_id).data
    except MlflowException:
        return {}, {}
    test = {name.removeprefix(TEST): score for name, score in sorted(data.metrics.items()) if name.startswith(TEST)}
    return test, dict(data.params)


def describe_entry(sealed: Sealed) -> LedgerEntry:
    """Gives an entry of the ledger with the numbers of its versions."""
    entry = sealed.entry
    about, before, after = (
        held.version if held else None for held in (entry.about, entry.champion_before, entry.champion_after)
    )
    return LedgerEntry(
        number=sealed.number,
        time=when(entry.time_ms),
        previous=entry.previous,
        time_ms=entry.time_ms,
        who=entry.who,
        action=entry.action,
        about=about,
        reasons=entry.reasons,
        evidence=entry.evidence,
        champion_before=before,
        champion_after=after,
        is_pinned=entry.is_pinned,
        version=about,
        digest=sealed.digest,
    )


def fetch_description(version: ModelVersion) -> ModelDescription | None:
    """Downloads a version's `model.json`; None where it was not registered by segpipe."""
    address = f"models:/{version.name}/{version.version}"
    with TemporaryDirectory() as folder:
        try:
            found = mlflow.artifacts.download_artifacts(f"{address}/{FILES / MODEL_FILE}", dst_path=folder)
            return ModelDescription.read(Path(found), "take another version (`segpipe registry list`)")
        except (MlflowException, OSError, StoreError):
            return None
