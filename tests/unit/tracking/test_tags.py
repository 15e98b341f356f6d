"""Whatever somebody writes into a registry, its versions can be shown, and the ledger names what is no entry."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.registry.champion import promote
from segpipe.registry.ledger import LEDGER_SUFFIX, Entry, read_ledger
from segpipe.registry.verdict import _Figures
from segpipe.registry.versions import describe_version, list_versions
from segpipe.tracking.tags import read_number, read_texts

NONSENSE = ["", "no number", "nan", "inf", "{", "[1]", "null", "\x1b[31m", '{"a": 1}', "9" * 400, "[" * 100_000]
TAGS = (
    "segpipe.val_mean_iou",
    "segpipe.val_mean_iou_interval",
    "segpipe.val_iou.road",
    "segpipe.weights_bytes",
    "segpipe.reasons",
    "segpipe.decision",
    "segpipe.git_commit",
)


@pytest.mark.parametrize("text", NONSENSE)
def test_a_tag_with_nonsense_is_shown_as_unreadable(text: str) -> None:
    assert read_number({"tag": text}, "tag") is None
    assert all(isinstance(line, str) for line in read_texts({"tag": text}, "tag"))


@pytest.mark.parametrize("text", NONSENSE[:-1])
def test_versions_with_nonsense_are_listed_and_shown(
    client: MlflowClient, add_version: Callable[..., ModelVersion], text: str
) -> None:
    good, bad = add_version("a" * 64), add_version("b" * 64)
    for tag in TAGS:
        client.set_model_version_tag("boxes", bad.version, tag, text)
    promote(client, good, "it is good")
    listed = list_versions(client, "boxes")
    assert [version.version for version in listed.versions] == ["2", "1"]
    shown = describe_version(client, client.get_model_version("boxes", bad.version))
    json.dumps(shown.to_json(), allow_nan=False)


VALID = {
    "previous": "0" * 64,
    "time_ms": 1,
    "who": "me",
    "action": "promoted",
    "about": {"version": "1", "weights_sha256": "a"},
    "reasons": ["good"],
    "evidence": {},
    "champion_before": None,
    "champion_after": None,
    "is_pinned": False,
}


@pytest.mark.parametrize(
    "change",
    [
        {"time_ms": "1"},
        {"time_ms": 10**20},
        {"who": None},
        {"about": "1"},
        {"about": {"version": 1, "weights_sha256": "a"}},
        {"reasons": "good"},
        {"reasons": [1]},
        {"evidence": []},
        {"champion_after": {"version": "1"}},
        {"is_pinned": "no"},
    ],
)
def test_an_entry_with_a_value_of_another_type_is_refused(change: dict[str, object]) -> None:
    assert Entry.from_text(json.dumps(VALID)).who == "me"
    with pytest.raises(ValueError, match="validation error"):
        Entry.from_text(json.dumps({**VALID, **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000, json.dumps({**VALID, "who": 5})])
def test_what_is_no_entry_is_named_and_passed_over(
    client: MlflowClient, add_version: Callable[..., ModelVersion], text: str
) -> None:
    promote(client, add_version("a" * 64), "it is good")
    name = f"boxes{LEDGER_SUFFIX}"
    client.create_model_version(name, source="x", tags={"segpipe.entry": text}, await_creation_for=0)
    client.set_registered_model_tag(name, "segpipe.head", "nonsense")
    ledger = read_ledger(client, "boxes")
    assert ledger.champion is not None
    assert any("entry 2" in problem for problem in ledger.problems)
    assert list_versions(client, "boxes").warnings
    promote(client, add_version("c" * 64), "it goes on")
    assert len(read_ledger(client, "boxes").entries) == 2


@pytest.mark.parametrize("evidence", [{"delta": 0.5}, {"delta": {"value": "x"}}, {"class_deltas": []}])
def test_figures_of_another_form_are_left_out(evidence: dict[str, object]) -> None:
    entry = Entry.from_text(json.dumps({**VALID, "evidence": evidence}))
    assert _Figures.of(entry) == _Figures()
