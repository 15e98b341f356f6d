"""The documents about versions as JSON: programs read them, so their keys, and the order of these, stay."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from segpipe.reports.documents.comparison import ClassDifference, ComparedVersion, MeanDifference
from segpipe.reports.documents.lineage import EarlierChampion, TracedCode, TracedEvaluation, VersionLineage
from segpipe.reports.documents.versions import LedgerEntry, ListedVersion, ShownVersion

LISTED = [
    "version", "created", "mean_iou", "low", "high", "decision", "commit", "is_dirty", "size_mb", "weights_sha256",
    "evaluation_digest", "is_champion",
]  # fmt: skip
DIFFERENCE = ["first", "second", "difference", "low", "high"]


def _keys(document: type) -> list[str]:
    return [field.name for field in fields(document)]


def test_the_keys_of_a_version_in_each_document() -> None:
    assert _keys(ListedVersion) == LISTED
    assert _keys(ComparedVersion) == [
        *LISTED,
        "latency_ms",
        "latency_low_ms",
        "latency_high_ms",
        "num_parameters",
        "run_id",
        "model",
    ]
    assert _keys(ShownVersion) == [
        "model_name", *LISTED, "is_pinned", "run_id", "reasons", "iou", "test", "params", "exports", "tags", "ledger",
        "warnings",
    ]  # fmt: skip


def test_the_keys_of_a_difference() -> None:
    assert _keys(MeanDifference) == [*DIFFERENCE, "probability"]
    assert _keys(ClassDifference) == ["name", "color", *DIFFERENCE]


def test_the_keys_of_an_entry() -> None:
    assert _keys(LedgerEntry) == [
        "number", "time", "previous", "time_ms", "who", "action", "about", "reasons", "evidence", "champion_before",
        "champion_after", "is_pinned", "version", "digest",
    ]  # fmt: skip


def _lineage(**changes: Any) -> dict[str, Any]:
    plain = dict.fromkeys(("source", "dataset_digest", "problems", "splits", "run", "weights_sha256", "decision"))
    empty: dict[str, Any] = {name: {} for name in ("data", "class_weights", "params", "environment")}
    document = VersionLineage(
        model_name="streets",
        version="7",
        is_champion=False,
        is_pinned=False,
        warnings=(),
        code=TracedCode(commit=None, recipe=None, is_dirty=False, patch=None),
        ledger=(),
        **{"evaluation": None, "predecessors": (), **plain, **empty, **changes},
    )
    written: dict[str, Any] = json.loads(json.dumps(document.to_json()))
    return written


def test_a_lineage_without_evaluation_has_an_empty_one() -> None:
    assert _lineage()["evaluation"] == {}
    assert list(_lineage())[-5:] == ["evaluation", "weights_sha256", "decision", "ledger", "predecessors"]
    evaluation = TracedEvaluation(evaluation_digest="e", inference=None, splits={})
    assert _lineage(evaluation=evaluation)["evaluation"] == {"evaluation_digest": "e", "inference": None, "splits": {}}


def test_the_time_of_an_earlier_champion_is_called_from() -> None:
    earlier = EarlierChampion(version="3", mean_iou=0.5, commit=None, since="Feb", until="March", decision=None)
    (written,) = _lineage(predecessors=[earlier])["predecessors"]
    assert list(written) == ["version", "mean_iou", "commit", "from", "until", "decision"]
    assert written["from"] == "Feb"
