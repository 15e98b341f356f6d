"""The page of a version's lineage: source, data, splits, training, weights, evaluation, decision, alias."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.reports.documents.lineage import VersionLineage
from segpipe.reports.figures import give_percent
from segpipe.reports.page import write_page
from segpipe.reports.parameters import list_parameters

SHORT_CHARS = 12


@dataclass(frozen=True)
class Step:
    """One box of the chain at the top of the page.

    Attributes:
        section: id of the section with the details.
        name: the name of the step.
        mark: a name or short hash that identifies its result; empty where none is recorded.
        detail: a few more words.
    """

    section: str
    name: str
    mark: str
    detail: str


def write_lineage_page(folder: Path, document: VersionLineage) -> Path:
    """Writes `index.html`.

    Args:
        folder: the folder of the page; created if it is missing.
        document: the version's lineage; a section without a record is None or empty.

    Returns:
        The page.
    """
    evaluation = document.evaluation
    splits = document.splits or []
    scores = evaluation.splits if evaluation else {}
    path = folder / "index.html"
    write_page(
        path,
        "lineage.html.j2",
        title=f"{document.model_name}, version {document.version}: from images to alias",
        **{
            **vars(document),
            "chain": _chain(document),
            "splits": splits,
            "classes_of_splits": _union(row.shares for row in splits),
            "params": list(list_parameters(document.params)),
            "evaluation_digest": evaluation.evaluation_digest if evaluation else None,
            "inference": evaluation.inference if evaluation else None,
            "scores": scores,
            "labels_of_scores": _union(row.others for row in scores.values()),
            "classes_of_scores": _union(row.iou for row in scores.values()),
        },
    )
    return path


def _chain(document: VersionLineage) -> list[Step]:
    source, run, evaluation, decision = document.source, document.run, document.evaluation, document.decision
    splits = document.splits or []
    val = evaluation.splits.get("val") if evaluation else None
    epoch = run.best_epoch if run else None
    mean_iou = val.mean_iou if val else None
    return [
        Step("source", "source", source.name if source else "", f"{source.num_files} files" if source else ""),
        Step("data", "data", _short(document.dataset_digest), "digest of the data set"),
        Step(
            "splits",
            "split",
            " / ".join(str(row.num_samples) for row in splits),
            " / ".join(row.split for row in splits),
        ),
        Step("training", "training", _short(run.run_id if run else None), (run.model if run else None) or ""),
        Step("weights", "weights", _short(document.weights_sha256), "" if epoch is None else f"epoch {epoch}"),
        Step(
            "evaluation",
            "evaluation",
            _short(evaluation.evaluation_digest if evaluation else None),
            "" if mean_iou is None else f"val mIoU {give_percent(mean_iou)}",
        ),
        Step("decision", "decision", decision.decision if decision else "", decision.decided if decision else ""),
        Step("ledger", "alias", "champion" if document.is_champion else "none", f"version {document.version}"),
    ]


def _short(value: str | None) -> str:
    return (value or "")[:SHORT_CHARS]


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Gives the keys of all mappings, each once, in order of appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
