"""Decides about a version: collects the evidence, calls the gate, writes its decision to ledger and champion.

Collecting may take minutes, if the champion has to be measured again, so it is done without the lock. If the champion
has changed meanwhile, the evidence is collected again for the new one.
"""

import json
import logging
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from pydantic import BaseModel, Field, ValidationError

from segpipe.config.register import Register
from segpipe.data.store import Store
from segpipe.errors import IncomparableError, TrackingError
from segpipe.metrics.parts.scores import CHIEF, list_labels
from segpipe.metrics.parts.slices import find_slices
from segpipe.places import REPORT_PAGE
from segpipe.registry.champion import Change, change_champion, find_outside_change, find_wrong_followers, identify
from segpipe.registry.evaluations import (
    ImageScores,
    fetch_image_scores,
    find_elders,
    leave_out,
    measure_again,
    open_validation,
    read_image_scores,
)
from segpipe.registry.gate import Candidate, Decision, Delta, decide
from segpipe.registry.ledger import KEPT, MAX_DESCRIPTION_CHARS, PROMOTED, Entry, Held, Ledger, read_ledger
from segpipe.registry.results import Results
from segpipe.registry.timing import time_models
from segpipe.registry.versions import fetch_description
from segpipe.reports.champion import DecidedReport, Difference, add_decision
from segpipe.tracking.client import retry_busy
from segpipe.tracking.run import RUN_DECISION, evaluation_place
from segpipe.tracking.tags import (
    COMPARED_WITH,
    DECISION,
    DELTA,
    DELTA_INTERVAL,
    EVALUATION_DIGEST,
    LEDGER_ENTRY,
    MEGABYTE,
    PROBABILITY_BETTER,
    REASONS,
    VAL_MEAN_IOU,
    WEIGHTS_BYTES,
    read_number,
)

log = logging.getLogger(__name__)

NOT_REGISTERED = str(sys.maxsize)  # of two equal models the one that was registered first is champion


@dataclass(frozen=True)
class Verdict:
    """What was decided about a version, now or earlier.

    Attributes:
        is_promoted: whether it became the champion then.
        reasons: why.
        champion: the version that is champion now; None for none.
        champion_before: the version that was champion when the decision was made.
    """

    is_promoted: bool
    reasons: tuple[str, ...]
    champion: str | None
    champion_before: str | None


def ensure_decision(client: MlflowClient, version: ModelVersion, results: Results, policy: Register) -> Verdict:
    """Decides about a version if that was not decided yet, and gives the verdict.

    A version that was promoted, by the gate or by a person, keeps its decision while there is a champion. One that was
    not promoted is decided about again when the champion, the pin or the policy has changed.

    Raises:
        TrackingError: the evidence cannot be collected.
    """
    name, held = version.name, identify(version)
    while True:
        ledger = read_ledger(client, name)
        if find_outside_change(client, ledger) is not None or find_wrong_followers(client, ledger):
            ledger, _ = change_champion(client, name, lambda settled: None)
        grounds = _Grounds.of(ledger, results, policy)
        past = ledger.decision_about(held)
        if past is not None and _is_settled(past, held, ledger, grounds):
            break
        decision = _weigh(client, name, version, results, ledger, policy)
        change = Change(
            action=PROMOTED if decision.promoted else KEPT,
            about=held,
            reasons=decision.reasons,
            champion=held if decision.promoted else ledger.champion,
            is_pinned=ledger.is_pinned,
            evidence={**(decision.evidence.to_json() if decision.evidence else {}), "grounds": asdict(grounds)},
        )
        seen = (ledger.champion, ledger.is_pinned, past)

        def propose(now: Ledger, change: Change = change, seen: Any = seen) -> Change | None:
            return change if (now.champion, now.is_pinned, now.decision_about(held)) == seen else None

        change_champion(client, name, propose)
    _show(client, version, results, past)
    before = past.champion_before
    return Verdict(
        is_promoted=past.action != KEPT,
        reasons=past.reasons,
        champion=ledger.champion.version if ledger.champion else None,
        champion_before=before.version if before else None,
    )


@dataclass(frozen=True)
class _Grounds:
    """The other inputs of a decision, besides the challenger: if they change, it is decided again.

    Attributes:
        champion: its version; None for none.
        is_pinned: whether the champion is pinned.
        policy: the section `register` without what decides nothing: the exports that are kept with a version, and the
            backend where no latency is limited.
        problems: the kinds of warnings of the data set's report.
    """

    champion: str | None
    is_pinned: bool
    policy: Mapping[str, Any]
    problems: Sequence[str]

    @staticmethod
    def of(ledger: Ledger, results: Results, policy: Register) -> "_Grounds":
        """Gives them as they are now."""
        idle: dict[str, Any] = {"export": True}
        if policy.budget.timed_export is None:
            idle["budget"] = {"backend"}
        return _Grounds(
            ledger.champion.version if ledger.champion else None,
            ledger.is_pinned,
            policy.model_dump(mode="json", exclude=idle),
            sorted({problem.kind for problem in results.problems}),
        )


def _is_settled(past: Entry, held: Held, ledger: Ledger, grounds: _Grounds) -> bool:
    if past.action == KEPT:
        return held == ledger.champion or past.evidence.get("grounds") == asdict(grounds)
    return ledger.champion is not None


def weigh_unregistered(client: MlflowClient, results: Results, policy: Register) -> tuple[Decision, str | None]:
    """Says what the gate would decide about a model that is not registered; nothing changes.

    Returns:
        The gate's decision, and the version that is champion now.

    Raises:
        TrackingError: the evidence cannot be collected.
    """
    ledger = read_ledger(client, policy.model_name)
    champion = ledger.champion.version if ledger.champion else None
    return _weigh(client, policy.model_name, None, results, ledger, policy), champion


def _weigh(
    client: MlflowClient, name: str, version: ModelVersion | None, results: Results, ledger: Ledger, policy: Register
) -> Decision:
    mine = read_image_scores(results.evaluation_folder, results.evaluation.evaluation_digest)
    champion = None if ledger.champion is None else client.get_model_version(name, ledger.champion.version)
    notes: tuple[str, ...] = ()
    theirs = None
    if champion is not None:
        try:
            mine, theirs, notes = _on_same_images(client, champion, mine, results)
        except IncomparableError as error:
            return Decision(False, (f"Version {champion.version}, the champion, cannot be compared: {error}.",))
        except TrackingError as error:
            raise TrackingError(f"version {champion.version}, the champion, cannot be measured: {error}") from error
    try:
        latencies_ms = _time(client, policy, results, version, champion)
    except IncomparableError as error:
        number = champion.version if champion else ""
        return Decision(False, (f"Version {number}, the champion, cannot be timed: {error}.",))
    number, size_mb = NOT_REGISTERED if version is None else str(version.version), results.weights_bytes / MEGABYTE
    decision = decide(
        Candidate(number, mine.confusions, size_mb, latencies_ms[0]),
        None if champion is None or theirs is None else _candidate_of(champion, theirs, latencies_ms[1]),
        results.class_names,
        mine.groups,
        policy,
        results.problems,
        find_slices(mine.rows)[0],
    )
    if ledger.pinning is not None and champion is not None:
        pinned, would = ledger.pinning, "promoted it" if decision.promoted else "kept the champion"
        why = f"Version {champion.version} is pinned by {pinned.who}: {' '.join(pinned.reasons)} "
        why += f"The gate would have {would}; `segpipe registry unpin` lets it decide again."
        return Decision(False, (why, *notes, *decision.reasons), decision.evidence)
    return Decision(decision.promoted, (*decision.reasons[:1], *notes, *decision.reasons[1:]), decision.evidence)


def _candidate_of(version: ModelVersion, scores: ImageScores, latency_ms: float | None) -> Candidate:
    size_mb = (read_number(version.tags, WEIGHTS_BYTES) or math.nan) / MEGABYTE
    return Candidate(str(version.version), scores.confusions, size_mb, latency_ms)


def _on_same_images(
    client: MlflowClient, champion: ModelVersion, mine: ImageScores, results: Results
) -> tuple[ImageScores, ImageScores, tuple[str, ...]]:
    """Gives the scores of challenger and champion on images that neither was trained on, and notes for the reader."""
    stored = fetch_image_scores(client, champion, mine.digest)
    if stored is None:
        log.info(
            "version %s, the champion, was measured on other images or labels; measuring it again", champion.version
        )
        stored = measure_again(client, champion, _validation(results, mine.digest))
    before, notes = read_number(champion.tags, VAL_MEAN_IOU), []
    theirs = stored.ordered_as(mine)
    if before is not None and champion.tags.get(EVALUATION_DIGEST) != mine.digest:
        note = (
            f"Version {champion.version}, the champion, was registered with other validation images, labels or classes "
            f"(mIoU {before:.4f} there) and was measured again on these: {stored.mean_iou:.4f}."
        )
        (mine, theirs), num_seen = leave_out([mine, theirs], [champion])
        if num_seen:
            note += f" It was trained on {num_seen} of them, which are left out here."
        notes.append(note)
    if elders := find_elders(client, results.model) + find_elders(client, fetch_description(champion)):
        (mine, theirs), num_seen = leave_out([mine, theirs], elders)
        if num_seen:
            notes.append(
                f"{num_seen} validation images are left out, because versions with whose weights one of the two began "
                "were trained on them."
            )
    return mine, theirs, tuple(notes)


def _validation(results: Results, digest: str) -> Store:
    store = open_validation(results.dataset_folder, digest)
    if store is None:
        raise TrackingError(
            f"{results.dataset_folder} does not hold the images of the evaluation; run `dvc repro` (or `dvc checkout`)"
        )
    return store


def _time(
    client: MlflowClient,
    policy: Register,
    results: Results,
    version: ModelVersion | None,
    champion: ModelVersion | None,
) -> tuple[float | None, float | None]:
    """Gives the milliseconds of challenger and champion; None where nothing limits them, or there is no champion."""
    if not policy.budget.needs_latency:
        return None, None
    store = _validation(results, results.evaluation.evaluation_digest)
    mine, *theirs = time_models(client, policy, results, store, version, champion)
    return mine, theirs[0] if theirs else None


class _Figures(BaseModel):
    """The parts of an entry's evidence that a version's page shows."""

    delta: Delta | None = None
    class_deltas: dict[str, Delta] = Field(default_factory=dict)
    probability: float | None = None

    @staticmethod
    def of(entry: Entry) -> "_Figures":
        """Gives the figures of an entry; none where they have another form than segpipe's."""
        try:
            return _Figures.model_validate(entry.evidence)
        except ValidationError:
            return _Figures()


def _show(client: MlflowClient, version: ModelVersion, results: Results, entry: Entry) -> None:
    """Copies the ledger's decision to the version's tags and description, for MLflow's pages."""
    shown = f"{entry.time_ms} {entry.action}"
    if version.tags.get(LEDGER_ENTRY) == shown:
        return
    name, number, figures = version.name, version.version, _Figures.of(entry)
    retry_busy(lambda: client.update_model_version(name, number, _describe(results, entry)))
    tags = {DECISION: KEPT if entry.action == KEPT else PROMOTED, REASONS: json.dumps(entry.reasons)}
    if (delta := figures.delta) is not None and entry.champion_before is not None:
        tags[COMPARED_WITH] = entry.champion_before.version
        if delta.value is not None:
            tags[DELTA] = f"{delta.value:+.4f}"
        if delta.low is not None and delta.high is not None and figures.probability is not None:
            tags[DELTA_INTERVAL] = f"{delta.low:+.4f} to {delta.high:+.4f}"
            tags[PROBABILITY_BETTER] = f"{figures.probability:.4f}"
    _keep_report(client, version, results, entry)
    # Last: a version without this tag is shown again.
    tags[LEDGER_ENTRY] = shown
    for key, value in tags.items():
        retry_busy(lambda key=key, value=value: client.set_model_version_tag(name, number, key, value))  # type: ignore[misc]


def _keep_report(client: MlflowClient, version: ModelVersion, results: Results, entry: Entry) -> None:
    """Keeps a copy of the model's report in its run, with the decision and the champion in it."""
    report = results.evaluation_folder / REPORT_PAGE
    if not (version.run_id and report.is_file()):
        return
    figures = _Figures.of(entry)
    total, mine = _difference(figures.delta), results.val_mean_iou
    decided = DecidedReport(
        decision=KEPT if entry.action == KEPT else PROMOTED,
        reasons=entry.reasons,
        champion=entry.champion_before.version if entry.champion_before else None,
        mean_iou=None if total is None else mine - total.value,
        difference=total,
        classes={name: one for name, delta in figures.class_deltas.items() if (one := _difference(delta))},
        probability=figures.probability,
    )
    place = evaluation_place(results.evaluation.inference)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / REPORT_PAGE
        copy.write_text(add_decision(report.read_text(encoding="utf-8"), decided, f"../{place}/"), encoding="utf-8")
        retry_busy(lambda: client.log_artifact(version.run_id, str(copy), RUN_DECISION))


def _difference(delta: Delta | None) -> Difference | None:
    return None if delta is None or delta.value is None else Difference(delta.value, delta.low, delta.high)


def _describe(results: Results, entry: Entry) -> str:
    splits, figures = list(results.metrics), _Figures.of(entry)
    columns = list(splits)
    if figures.delta is not None and entry.champion_before is not None:
        columns += [f"champion {entry.champion_before.version}, val", "difference", "95% interval"]
    rows = ["| | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]

    def add(label: str, values: list[float | None], delta: Delta | None) -> None:
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        if len(columns) > len(splits):
            cells += ["-"] * 3 if delta is None else _cells(values[0], delta)
        rows.append(f"| {label} | " + " | ".join(cells) + " |")

    for metric, label in list_labels().items():
        delta = figures.delta if metric == CHIEF else None
        # An evaluation of an earlier release has no value of a newer metric.
        add(label, [results.metrics[split].get(metric) for split in splits], delta)
    for name in results.class_names:
        add(name, [results.metrics[split]["iou"][name] for split in splits], figures.class_deltas.get(name))
    verdict = "Not promoted" if entry.action == KEPT else "Promoted"
    text = "\n".join([f"**{verdict}.**", "", *(f"- {reason}" for reason in entry.reasons), ""])[:MAX_DESCRIPTION_CHARS]
    for index, row in enumerate(rows):
        if len(text) + len(row) > MAX_DESCRIPTION_CHARS:
            return f"{text}\n\nand {len(rows) - index} more classes: `segpipe registry show`"
        text += "\n" + row
    return text


def _cells(value: float | None, delta: Delta) -> list[str]:
    difference, low, high = delta.value, delta.low, delta.high
    if value is None or difference is None:
        return ["-"] * 3
    interval = "-" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
    return [f"{value - difference:.4f}", f"{difference:+.4f}", interval]
