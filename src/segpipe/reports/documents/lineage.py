"""The origin of a version, from images to alias."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.documents import ReportedSplit
from segpipe.errors import Problem
from segpipe.reports.documents.versions import AboutModel, LedgerEntry


@dataclass(frozen=True, kw_only=True)
class TracedSource:
    """The labelled images of a version.

    Attributes:
        name: of the source.
        format: its reader.
        licence: as the source says.
        num_files: how many.
    """

    name: str
    format: str
    licence: str
    num_files: int


@dataclass(frozen=True, kw_only=True)
class TracedCode:
    """The code of a version.

    Attributes:
        commit: of Git.
        recipe: that `params.yaml` was the same as; None for none.
        is_dirty: whether files were not committed.
        patch: where the run keeps the difference to the commit; None where it keeps none.
    """

    commit: str | None
    recipe: str | None
    is_dirty: bool
    patch: str | None


@dataclass(frozen=True, kw_only=True)
class TracedRun:
    """The training of a version.

    Attributes:
        run_id: in MLflow.
        experiment: in MLflow.
        started: when, in UTC.
        ended: as `started`.
        status: in MLflow.
        best_epoch: whose weights were kept; None where segpipe did not register the version.
        model: name of the network, as `best_epoch`.
    """

    run_id: str
    experiment: str
    started: str
    ended: str
    status: str
    best_epoch: int | None
    model: str | None


@dataclass(frozen=True, kw_only=True)
class TracedScores:
    """The scores of a version on one split; None where a value is not known.

    Attributes:
        mean_iou: 0..1.
        low: of its 95% interval.
        high: as `low`.
        others: the values of the other metrics, by their names on pages.
        iou: of each class.
    """

    mean_iou: float | None
    low: float | None
    high: float | None
    others: Mapping[str, float | None]
    iou: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class TracedEvaluation:
    """The evaluation of a version.

    Attributes:
        evaluation_digest: of images and labels.
        inference: digest of how the model predicts; None for the network alone.
        splits: the scores of each split.
    """

    evaluation_digest: str | None
    inference: str | None
    splits: Mapping[str, TracedScores]


@dataclass(frozen=True, kw_only=True)
class TracedDecision:
    """The ledger's decision about a version.

    Attributes:
        decision: what was decided.
        reasons: why.
        decided: when, in UTC.
        by: user@machine.
        evidence: the numbers behind it.
    """

    decision: str
    reasons: Sequence[str]
    decided: str
    by: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EarlierChampion:
    """A champion before a version.

    Attributes:
        version: its number.
        mean_iou: with which it was registered.
        commit: of its code.
        since: when it became champion, in UTC; `from` in JSON, which is a keyword of Python.
        until: when it was replaced; None while it is the champion.
        decision: the reasons of the decision about it.
    """

    version: str
    mean_iou: float | None
    commit: str | None
    since: str
    until: str | None
    decision: str | None


@dataclass(frozen=True, kw_only=True)
class VersionLineage(AboutModel):
    """The output of `segpipe registry lineage --json`: a version from images to alias.

    A part that was not recorded is None or empty.

    Attributes:
        version: its number.
        is_champion: whether it is the champion.
        is_pinned: whether it stays that, whatever the gate decides.
        warnings: problems of ledger and alias.
        source: the labelled images.
        data: DVC's hashes, by path.
        dataset_digest: of the data set.
        problems: the warnings of the data set's report.
        splits: of the data set.
        class_weights: by class.
        params: the section `train`.
        code: of the training.
        environment: of the training: packages and machine.
        run: of the training.
        evaluation: None is `{}` in JSON.
        weights_sha256: of the weights.
        decision: the last one about it.
        ledger: the entries that name it.
        predecessors: the champions before it, newest first.
    """

    version: str
    is_champion: bool
    is_pinned: bool
    warnings: Sequence[str]
    source: TracedSource | None
    data: Mapping[str, str]
    dataset_digest: str | None
    problems: Sequence[Problem] | None
    splits: Sequence[ReportedSplit] | None
    class_weights: Mapping[str, float]
    params: Mapping[str, Any]
    code: TracedCode
    environment: Mapping[str, str]
    run: TracedRun | None
    evaluation: TracedEvaluation | None
    weights_sha256: str | None
    decision: TracedDecision | None
    ledger: Sequence[LedgerEntry]
    predecessors: Sequence[EarlierChampion]

    def to_json(self) -> dict[str, object]:
        """The document as plain values, with the keys that `EarlierChampion` and `evaluation` have in JSON."""
        document = super().to_json()
        predecessors = [
            {"from" if name == "since" else name: value for name, value in vars(one).items()}
            for one in self.predecessors
        ]
        return {**document, "evaluation": document["evaluation"] or {}, "predecessors": predecessors}
