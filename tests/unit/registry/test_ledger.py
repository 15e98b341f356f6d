"""Entries on a real MLflow store: written, read back, and every way of changing them afterwards noticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient

from segpipe.registry.ledger import (
    BEGINNING,
    Entry,
    Held,
    Ledger,
    Sealed,
    append,
    mark_applied,
    read_ledger,
)
from segpipe.tracking.tags import DIGEST, ENTRY, HEAD

NAME, LEDGER = "boxes", "boxes.ledger"


def held(number: int) -> Held:
    return Held(str(number), f"weights of {number}")


def entry_on(ledger: Ledger, champion: Held | None, action: str = "promoted", **changes: Any) -> Entry:
    """An entry on top of a ledger, by which `champion` is champion."""
    entry = Entry(
        previous=ledger.head,
        time_ms=1000 * (len(ledger.entries) + 1),
        who="tester@machine",
        action=action,
        about=champion,
        reasons=("Größer, schneller.",),
        evidence={"delta": 0.25, "grounds": {"champion": None}},
        champion_before=ledger.champion,
        champion_after=champion,
        is_pinned=False,
    )
    return dataclasses.replace(entry, **changes)


def write(client: MlflowClient, *numbers: int) -> Ledger:
    """Promotes versions one after another."""
    ledger = read_ledger(client, NAME)
    for number in numbers:
        after = append(client, ledger, entry_on(ledger, held(number)))
        assert after is not None
        ledger = after
    return ledger


def in_memory(*steps: tuple[str, int | None]) -> Ledger:
    """A ledger of (action, champion afterwards), never stored; its times are 1000, 2000, ..."""
    ledger = Ledger(NAME, (), 0, ())
    for number, (action, champion) in enumerate(steps, 1):
        after = None if champion is None else held(champion)
        is_pinned = {"pinned": True, "rolled back": True, "unpinned": False}.get(action, ledger.is_pinned)
        entry = entry_on(ledger, after, action, is_pinned=is_pinned)
        ledger = Ledger(NAME, (*ledger.entries, Sealed(number, f"digest {number}", True, entry)), number, ())
    return ledger


def test_a_ledger_that_was_never_begun_is_empty(client: MlflowClient) -> None:
    ledger = read_ledger(client, NAME)
    assert ledger == Ledger(NAME, (), 0, ())
    assert (ledger.head, ledger.champion, ledger.is_pinned, ledger.pinning) == (BEGINNING, None, False, None)
    assert client.search_registered_models() == []  # looking writes nothing


def test_entries_are_read_back_in_order_and_chained(client: MlflowClient) -> None:
    written = write(client, 1, 2, 3)
    ledger = read_ledger(client, NAME)
    assert ledger == written
    assert ledger.problems == ()
    assert [sealed.number for sealed in ledger.entries] == [1, 2, 3]
    assert [sealed.entry.champion_after for sealed in ledger.entries] == [held(1), held(2), held(3)]
    assert ledger.entries[0].entry.reasons == ("Größer, schneller.",)
    first = hashlib.sha256(ledger.entries[0].entry.to_text().encode()).hexdigest()
    assert ledger.entries[0].entry.previous == "0" * 64
    assert ledger.entries[1].entry.previous == ledger.entries[0].digest == first
    assert ledger.head == ledger.entries[2].digest
    assert ledger.champion == held(3)


def test_an_entry_says_in_mlflow_what_was_decided(client: MlflowClient) -> None:
    write(client, 1, 2)
    description = client.get_model_version(LEDGER, "2").description
    assert description == (
        "**version 2: promoted.** Größer, schneller.\n\nchampion 1 -> 2; tester@machine"  # what MLflow's page shows
    )


def test_an_entry_that_moves_the_alias_waits_for_it(client: MlflowClient) -> None:
    ledger = write(client, 1)
    assert not ledger.entries[-1].is_applied
    mark_applied(client, ledger)
    ledger = read_ledger(client, NAME)
    assert ledger.entries[-1].is_applied
    kept = append(client, ledger, entry_on(ledger, held(1), "not promoted", about=held(2)))
    assert kept is not None
    assert kept.entries[-1].is_applied
    noticed = append(client, kept, entry_on(kept, held(2), "noticed"))
    assert noticed is not None
    assert noticed.entries[-1].is_applied  # the alias was there before


# Every way of changing what was written


def change_text(client: MlflowClient, number: str, *, digest_too: bool) -> None:
    text = client.get_model_version(LEDGER, number).tags[ENTRY]
    changed = text.replace("schneller", "schöner")
    assert changed != text
    client.set_model_version_tag(LEDGER, number, ENTRY, changed)
    if digest_too:
        client.set_model_version_tag(LEDGER, number, DIGEST, hashlib.sha256(changed.encode()).hexdigest())


def swap(client: MlflowClient, one: str, other: str) -> None:
    rows = {number: client.get_model_version(LEDGER, number).tags for number in (one, other)}
    for number, tags in ((one, rows[other]), (other, rows[one])):
        for name in (ENTRY, DIGEST):
            client.set_model_version_tag(LEDGER, number, name, tags[name])


def add_by_hand(client: MlflowClient, text: str) -> None:
    tags = {ENTRY: text, DIGEST: hashlib.sha256(text.encode()).hexdigest()}
    client.create_model_version(LEDGER, source="x", tags=tags, await_creation_for=0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: change_text(c, "2", digest_too=False), "entry 2 was changed after it was written"),
        (lambda c: change_text(c, "4", digest_too=False), "entry 4 was changed after it was written"),
        (
            lambda c: change_text(c, "2", digest_too=True),
            "entry 3 does not follow the entry before it: one of the two was changed",
        ),
        (lambda c: change_text(c, "4", digest_too=True), "entry 4 was changed after it was written"),
        (lambda c: c.delete_model_version_tag(LEDGER, "2", ENTRY), "entry 2 was changed after it was written"),
        (lambda c: c.delete_model_version(LEDGER, "1"), "entry 1 was deleted"),
        (lambda c: c.delete_model_version(LEDGER, "3"), "entry 3 was deleted"),
        (lambda c: c.delete_model_version(LEDGER, "4"), "entry 4 was deleted"),
        (
            lambda c: [c.delete_model_version(LEDGER, number) for number in ("2", "3")],
            "entry 2 to 3 was deleted",
        ),
        (
            lambda c: [c.delete_model_version(LEDGER, number) for number in ("3", "4")],
            "entry 3 to 4 was deleted",
        ),
        (lambda c: add_by_hand(c, "no JSON"), "entry 5 was not written by segpipe"),
        (lambda c: add_by_hand(c, '{"action": "promoted"}'), "entry 5 was not written by segpipe"),
        (
            lambda c: c.create_model_version(LEDGER, source="x", await_creation_for=0),
            "entry 5 was changed after it was written",
        ),
    ],
    ids=[
        "text",
        "text-of-the-last",
        "text-and-digest",
        "text-and-digest-of-the-last",
        "text-gone",
        "first-deleted",
        "middle-deleted",
        "last-deleted",
        "two-deleted",
        "two-last-deleted",
        "no-json",
        "no-entry",
        "no-tags",
    ],
)
def test_a_change_afterwards_is_named(
    client: MlflowClient, change: Callable[[MlflowClient], object], problem: str
) -> None:
    write(client, 1, 2, 3, 4)
    change(client)
    assert read_ledger(client, NAME).problems == (problem,)


@pytest.mark.parametrize(("one", "other"), [("1", "2"), ("2", "3"), ("3", "4"), ("1", "4")])
def test_swapped_entries_are_noticed(client: MlflowClient, one: str, other: str) -> None:
    write(client, 1, 2, 3, 4)
    swap(client, one, other)
    assert read_ledger(client, NAME).problems


def test_what_was_deleted_at_the_end_stays_known_when_the_ledger_goes_on(client: MlflowClient) -> None:
    write(client, 1, 2)
    client.delete_model_version(LEDGER, "2")
    ledger = write(client, 3)
    assert [sealed.number for sealed in ledger.entries] == [1, 3]
    assert ledger.problems == ("entry 2 was deleted",)


# Two at once, and ends in the middle


def test_of_two_entries_on_top_of_one_the_first_counts_for_everybody(client: MlflowClient) -> None:
    ledger = write(client, 1)
    winner = append(client, ledger, entry_on(ledger, held(2)))
    assert append(client, ledger, entry_on(ledger, held(3))) is None
    now = read_ledger(client, NAME)
    assert winner is not None
    assert now.entries == winner.entries
    assert now.champion == held(2)
    assert now.problems == ()
    assert now.decision_about(held(3)) is None
    assert now.previous_champions() == [held(1)]

    ledger = write(client, 4)
    assert [sealed.number for sealed in ledger.entries] == [1, 2, 4]
    assert ledger.problems == ()


def test_an_entry_whose_answer_was_lost_counts_once(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    create, calls = client.create_model_version, []

    def create_and_lose_the_answer(*args: Any, **options: Any) -> Any:
        row = create(*args, **options)
        calls.append(row.version)
        if len(calls) == 1:
            raise MlflowException("the server went away", TEMPORARILY_UNAVAILABLE)
        return row

    monkeypatch.setattr(client, "create_model_version", create_and_lose_the_answer)
    ledger = write(client, 1)
    assert len(calls) == 2
    assert [sealed.number for sealed in ledger.entries] == [1]
    assert write(client, 2).problems == ()
    assert [sealed.number for sealed in read_ledger(client, NAME).entries] == [1, 3]


@pytest.mark.parametrize("call", ["create_model_version", "set_registered_model_tag"])
def test_a_process_that_ends_in_the_middle_leaves_a_whole_chain(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def end(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(client, call, end)
        write(client, 1)
    assert read_ledger(client, NAME).problems == ()
    ledger = write(client, 2, 3)
    assert ledger.problems == ()
    assert ledger.champion == held(3)
    assert client.get_registered_model(LEDGER).tags[HEAD] == f"{ledger.last_number} {ledger.head}"


def test_who_reads_while_another_writes_sees_no_deletion(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    write(client, 1)
    search = client.search_model_versions

    def search_then_write(*args: Any, **options: Any) -> Any:
        found = search(*args, **options)
        monkeypatch.setattr(client, "search_model_versions", search)
        write(client, 2)
        return found

    monkeypatch.setattr(client, "search_model_versions", search_then_write)
    assert read_ledger(client, NAME).problems == ()


# What a ledger says


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], []),
        ([("promoted", 1)], []),
        ([("promoted", 1), ("promoted", 2), ("not promoted", 2), ("promoted", 3)], [2, 1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2)], [1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2), ("rolled back", 1)], []),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 1)], []),  # 2 had been deleted
        ([("promoted", 1), ("promoted", 2), ("rolled back", 1), ("unpinned", 1), ("promoted", 3)], [1]),
        ([("promoted", 1), ("promoted", 2), ("rolled back", 1), ("promoted", 2)], [1]),
        # Promoted by hand again: back to whom it took over from, then on along the old path, never in a circle.
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("promoted", 2)], [3, 1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("promoted", 2), ("rolled back", 3)], [2, 1]),
        (
            [
                ("promoted", 1),
                ("promoted", 2),
                ("promoted", 3),
                ("promoted", 2),
                ("rolled back", 3),
                ("rolled back", 2),
            ],
            [1],
        ),
        ([("promoted", 1), ("noticed", 7), ("promoted", 2)], [7, 1]),
        ([("promoted", 1), ("promoted", 2), ("noticed", None)], [2, 1]),  # the champion was deleted
    ],
)
def test_previous_champions(steps: list[tuple[str, int | None]], expected: list[int]) -> None:
    assert in_memory(*steps).previous_champions() == [held(number) for number in expected]


def test_a_pin_is_explained_by_its_last_entry() -> None:
    ledger = in_memory(("promoted", 1), ("pinned", 1), ("promoted", 2))
    assert ledger.is_pinned
    assert ledger.pinning == ledger.entries[1].entry
    ledger = in_memory(("promoted", 1), ("pinned", 1), ("promoted", 2), ("rolled back", 1))
    assert ledger.pinning == ledger.entries[3].entry
    ledger = in_memory(("promoted", 1), ("pinned", 1), ("unpinned", 1))
    assert not ledger.is_pinned
    assert ledger.pinning is None


def test_the_last_decision_about_a_version_counts() -> None:
    ledger = in_memory(("promoted", 1), ("promoted", 2), ("noticed", 7), ("rolled back", 2), ("pinned", 2))
    assert ledger.decision_about(held(1)) == ledger.entries[0].entry
    assert ledger.decision_about(held(2)) == ledger.entries[1].entry
    assert ledger.decision_about(held(7)) == ledger.entries[2].entry
    assert ledger.decision_about(Held("1", "other weights of that number")) is None


def test_reigns_by_hand() -> None:
    ledger = in_memory(("promoted", 1), ("not promoted", 1), ("promoted", 2), ("noticed", None), ("promoted", 1))
    assert ledger.reigns() == [(held(1), 1000, 3000), (held(2), 3000, 4000), (held(1), 5000, None)]


@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', "{}", '{"about": {"number": 1}}'])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Entry.from_text(text)


def test_the_text_of_an_entry_is_canonical() -> None:
    entry = entry_on(Ledger(NAME, (), 0, ()), None, about=None)
    text = entry.to_text()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert Entry.from_text(text) == entry
    assert Entry.from_text(json.dumps(json.loads(text))).to_text() == text
