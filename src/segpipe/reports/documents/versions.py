"""What the registry itself says of versions: the list, the ledger, one version in full.

The keys of the JSON are the attributes in their order. A class with two parents has the keys of the last parent first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.documents import Document


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
        exports: the formats of the exports that it holds, in `exports/FORMAT` of its files.
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
    exports: Sequence[str]
    tags: Mapping[str, str]
    ledger: Sequence[LedgerEntry]
    warnings: Sequence[str]
