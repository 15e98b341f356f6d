"""The page of a version's lineage: source, data, splits, training, weights, evaluation, decision, alias."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def write_lineage_page(folder: Path, document: Mapping[str, Any]) -> Path:
    """Writes `index.html`.

    Args:
        folder: the folder of the page; created if it is missing.
        document: the version's lineage; a section without a record is null or empty.

    Returns:
        The page.
    """
    evaluation = document["evaluation"] or {}
    splits = document["splits"] or []
    scores = evaluation.get("splits") or {}
    path = folder / "index.html"
    write_page(
        path,
        "lineage.html.j2",
        title=f"{document['model_name']}, version {document['version']}: from images to alias",
        model_name=document["model_name"],
        version=document["version"],
        is_champion=document["is_champion"],
        is_pinned=document["is_pinned"],
        warnings=document["warnings"],
        chain=_chain(document),
        source=document["source"],
        data=document["data"],
        dataset_digest=document["dataset_digest"],
        problems=document["problems"],
        splits=splits,
        classes_of_splits=_union(row["shares"] for row in splits),
        class_weights=document["class_weights"],
        params=list(list_parameters(document["params"] or {})),
        code=document["code"],
        environment=document["environment"],
        run=document["run"],
        weights_sha256=document["weights_sha256"],
        evaluation_digest=evaluation.get("evaluation_digest"),
        inference=evaluation.get("inference"),
        scores=scores,
        labels_of_scores=_union(row["others"] for row in scores.values()),
        classes_of_scores=_union(row["iou"] for row in scores.values()),
        decision=document["decision"],
        ledger=document["ledger"],
        predecessors=document["predecessors"],
    )
    return path


def _chain(document: Mapping[str, Any]) -> list[Step]:
    source, run = document["source"] or {}, document["run"] or {}
    splits = document["splits"] or []
    evaluation, decision = document["evaluation"] or {}, document["decision"] or {}
    val = (evaluation.get("splits") or {}).get("val") or {}
    files, epoch, mean_iou = source.get("num_files"), run.get("best_epoch"), val.get("mean_iou")
    champion = "champion" if document["is_champion"] else "none"
    return [
        Step("source", "source", source.get("name") or "", "" if files is None else f"{files} files"),
        Step("data", "data", _short(document["dataset_digest"]), "digest of the data set"),
        Step(
            "splits",
            "split",
            " / ".join(str(row["num_samples"]) for row in splits),
            " / ".join(row["split"] for row in splits),
        ),
        Step("training", "training", _short(run.get("run_id")), run.get("model") or ""),
        Step("weights", "weights", _short(document["weights_sha256"]), "" if epoch is None else f"epoch {epoch}"),
        Step(
            "evaluation",
            "evaluation",
            _short(evaluation.get("evaluation_digest")),
            "" if mean_iou is None else f"val mIoU {give_percent(mean_iou)}",
        ),
        Step("decision", "decision", decision.get("decision") or "", decision.get("decided") or ""),
        Step("ledger", "alias", champion, f"version {document['version']}"),
    ]


def _short(value: str | None) -> str:
    return (value or "")[:SHORT_CHARS]


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Gives the keys of all mappings, each once, in order of appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
