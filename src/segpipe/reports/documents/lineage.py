"""The documents about registered versions, as types: the registry fills them, pages show them, `--json` prints them.

The keys of the JSON are the attributes in their order. A class with two parents has the keys of the last parent first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.classes import Color
from segpipe.documents import Document, ReportedSplit
from segpipe.errors import Problem


@dataclass(frozen=True, kw_only=True)
class AboutModel(Document):
    """The first key of each document.

    Attributes:
        model_name: the registered model.
    """

    model_name: str


@dataclass(frozen=True, kw_only=True)
class ListedVersion(Document):
    """A version in a list; a value that its tags do not have is None.

    Attributes:
        version: its number.
        created: when, in UTC.
        mean_iou: on the validation images with which it was registered, 0..1.
        low: of the 95% interval of `mean_iou`.
        high: as `low`.
        decision: the ledger's last one about it.
        commit: of the code.
        is_dirty: whether files were not committed.
        size_mb: of its weights, megabytes.
        weights_sha256: of its weights.
        evaluation_digest: of the images and labels of `mean_iou`.
        is_champion: whether it is the champion.
    """

    version: str
    created: str
    mean_iou: float | None
    low: float | None
    high: float | None
    decision: str
    commit: str | None
    is_dirty: bool
    size_mb: float | None
    weights_sha256: str | None
    evaluation_digest: str | None
    is_champion: bool


@dataclass(frozen=True, kw_only=True)
class VersionList(AboutModel):
    """The output of `segpipe registry list --json`.

    Attributes:
        champion: its number; None for none.
        is_pinned: whether the champion stays, whatever the gate decides.
        warnings: problems of ledger and alias.
        versions: newest first.
    """

    champion: str | None
    is_pinned: bool
    warnings: Sequence[str]
    versions: Sequence[ListedVersion]


@dataclass(frozen=True, kw_only=True)
class LedgerEntry(Document):
    """An entry of the ledger; its versions are numbers, None for none.

    Attributes:
        number: of the entry.
        time: when, in UTC.
        previous: digest of the entry before.
        time_ms: when, milliseconds since 1970.
        who: user@machine.
        action: what was decided.
        about: the version that the decision is about.
        reasons: why.
        evidence: the numbers behind the decision.
        champion_before: the champion before the decision.
        champion_after: the champion after it.
        is_pinned: whether the champion is pinned after it.
        version: the same as `about`.
        digest: of the entry.
    """

    number: int
    time: str
    previous: str
    time_ms: int
    who: str
    action: str
    about: str | None
    reasons: Sequence[str]
    evidence: Mapping[str, Any]
    champion_before: str | None
    champion_after: str | None
    is_pinned: bool
    version: str | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class History(AboutModel):
    """The output of `segpipe registry history --json`.

    Attributes:
        entries: of the ledger.
        head: digest of the last one.
        problems: signs that the ledger was changed after it was written.
        outside_change: how the alias was moved outside segpipe; None if it was not.
    """

    entries: Sequence[LedgerEntry]
    head: str
    problems: Sequence[str]
    outside_change: str | None


@dataclass(frozen=True, kw_only=True)
class ShownVersion(ListedVersion, AboutModel):
    """The output of `segpipe registry show --json`: all that the registry itself says of a version.

    Attributes:
        is_pinned: whether it is the champion and stays that, whatever the gate decides.
        run_id: of its training.
        reasons: of the decision.
        iou: of each class; None where it is not known.
        test: the scores on the test split by their names in MLflow, `iou_CLASS` among them; empty without a run.
        params: of its training, by dotted keys; empty without a run.
        tags: all, and the lineage that its run keeps, sorted.
        ledger: the entries about it.
        warnings: problems of ledger and alias.
    """

    is_pinned: bool
    run_id: str | None
    reasons: Sequence[str]
    iou: Mapping[str, float | None]
    test: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    ledger: Sequence[LedgerEntry]
    warnings: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class ComparedVersion(ListedVersion):
    """One of two versions that are compared; its scores are those with which it was registered.

    Attributes:
        latency_ms: of one image: the median; None where it was not measured.
        latency_low_ms: a tenth of the calls is faster.
        latency_high_ms: a tenth of the calls is slower.
        num_parameters: None where they were not counted.
        run_id: of its training.
        model: name of the network; None where segpipe did not register it.
    """

    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    num_parameters: int | None = None
    run_id: str | None
    model: str | None


@dataclass(frozen=True, kw_only=True)
class ComparedImages:
    """The validation images on which two versions are compared.

    Attributes:
        evaluation_digest: of images and labels.
        num_images: how many.
        kind: 'group' or 'block': the units that count as independent.
        num_units: how many units.
    """

    evaluation_digest: str
    num_images: int
    kind: str
    num_units: int


@dataclass(frozen=True, kw_only=True)
class ScoreDifference:
    """A score of two versions on the same images; None where a value is not known.

    Attributes:
        first: of the first version, 0..1.
        second: of the second.
        difference: second minus first.
        low: of the 95% interval of the difference.
        high: as `low`.
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def direction(self) -> str:
        """`better` where the interval is above zero, `worse` where below, "" where it contains zero."""
        if self.low is None or self.high is None:
            return ""
        return "better" if self.low > 0 else "worse" if self.high < 0 else ""


@dataclass(frozen=True, kw_only=True)
class MeanDifference(ScoreDifference):
    """The mIoU of two versions.

    Attributes:
        probability: that the second version is better, 0..1; None without an interval.
    """

    probability: float | None


@dataclass(frozen=True, kw_only=True)
class NamedClass:
    """A class.

    Attributes:
        name: of the class.
        color: RGB, 0..255.
    """

    name: str
    color: Color


@dataclass(frozen=True, kw_only=True)
class ClassDifference(ScoreDifference, NamedClass):
    """The IoU of a class in two versions."""


@dataclass(frozen=True, kw_only=True)
class TextDifference:
    """A property that two versions do not share.

    Attributes:
        name: of the property.
        first: of the first version; None where it has none.
        second: of the second.
    """

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, kw_only=True)
class ComparedPicture:
    """An image on which two versions differ.

    Attributes:
        file: the picture next to the page.
        sample_id: name of the image.
        group: its group.
        first: mIoU of the first version on it; None where nothing is labelled.
        second: of the second.
    """

    file: str
    sample_id: str
    group: str
    first: float | None
    second: float | None


@dataclass(frozen=True, kw_only=True)
class VersionComparison(AboutModel):
    """The output of `segpipe registry compare --json`; differences are second minus first.

    Attributes:
        versions: the first and the second.
        set: the images.
        notes: on the images, for the reader.
        mean_iou: of both.
        classes: the IoU of each class.
        data: what differs in the data and the code.
        params: what differs in the parameters.
        environment: what differs in packages and machine.
        pictures: the images that differ most, the most different first.
    """

    versions: tuple[ComparedVersion, ComparedVersion]
    set: ComparedImages
    notes: Sequence[str]
    mean_iou: MeanDifference
    classes: Sequence[ClassDifference]
    data: Sequence[TextDifference]
    params: Sequence[TextDifference]
    environment: Sequence[TextDifference]
    pictures: Sequence[ComparedPicture]


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
