"""Every way in which the champion changes, on a real MLflow store: alone, behind our back, killed in the middle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.errors import TrackingError
from segpipe.registry import champion
from segpipe.registry.champion import (
    Change,
    change_champion,
    find_champion,
    find_only_champion,
    find_outside_change,
    find_wrong_followers,
    identify,
    pin,
    promote,
    roll_back,
    unpin,
)
from segpipe.registry.ledger import NOT_BY_SEGPIPE, Held, Ledger, append, read_ledger
from segpipe.registry.lock import Lease

NAME, LEDGER, CHAMPION = "boxes", "boxes.ledger", "champion"
AddVersion = Callable[..., ModelVersion]


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


@pytest.fixture
def versions(add_version: AddVersion) -> dict[int, ModelVersion]:
    """Versions 1 to 4 by their numbers."""
    return {number: add_version(f"weights {number}") for number in range(1, 5)}


def champion_of(client: MlflowClient) -> str | None:
    """Whom the alias names, after seeing that the ledger says the same and is whole."""
    ledger = read_ledger(client, NAME)
    assert ledger.problems == ()
    assert find_outside_change(client, ledger) is None
    found = find_champion(client, NAME)
    assert (identify(found) if found else None) == ledger.champion
    assert "boxes.lock" not in [model.name for model in client.search_registered_models()]
    return str(found.version) if found else None


def last_entry(client: MlflowClient) -> tuple[str, str | None, str | None, bool]:
    """Action, champion before and after, and pin."""
    entry = read_ledger(client, NAME).entries[-1].entry
    before, after = (held.version if held else None for held in (entry.champion_before, entry.champion_after))
    return entry.action, before, after, entry.is_pinned


def keep(ledger: Ledger) -> Change:
    """Refuses a challenger, as the gate does."""
    return Change("not promoted", Held("9", "weights 9"), ("Worse.",), ledger.champion, ledger.is_pinned, {})


def settle(client: MlflowClient) -> Ledger:
    """Brings ledger and alias together without a change of its own."""
    before, after = change_champion(client, NAME, lambda _: None)
    assert before == after
    return after


@contextmanager
def killed_at(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, call: str) -> Iterator[None]:
    """Ends the body when it makes a call, as a kill does."""

    def end(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(client, call, end)
        yield


# Decisions by hand


def test_a_model_that_does_not_exist_has_no_champion(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    assert find_champion(client, "unheard-of") is None
    assert find_champion(client, NAME) is None
    assert champion_of(client) is None


def test_promote(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    ledger = promote(client, versions[1], "The first.")
    assert champion_of(client) == "1"
    assert ledger.entries[-1].is_applied
    assert ledger.entries[-1].entry.reasons == ("The first.",)
    promote(client, versions[2], "Better on our streets.")
    assert champion_of(client) == "2"
    assert last_entry(client) == ("promoted", "1", "2", False)
    with pytest.raises(TrackingError, match="version 2 is the champion already"):
        promote(client, versions[2], "Again.")
    assert len(read_ledger(client, NAME).entries) == 2


def test_roll_back_goes_back_step_by_step_and_pins(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    for number in (1, 2, 3):
        promote(client, versions[number], "Better.")
    roll_back(client, NAME, "Complaints.")
    assert champion_of(client) == "2"
    assert last_entry(client) == ("rolled back", "3", "2", True)
    roll_back(client, NAME, "More complaints.")
    assert champion_of(client) == "1"
    with pytest.raises(TrackingError, match=r"'boxes' .* no earlier champion .* `segpipe registry promote V --why"):
        roll_back(client, NAME, "Even more.")
    assert champion_of(client) == "1"

    promote(client, versions[4], "Trained again.")
    assert last_entry(client) == ("promoted", "1", "4", True)  # a person's word; the pin now holds this one
    roll_back(client, NAME, "Not that either.")
    assert champion_of(client) == "1"


def test_roll_back_without_a_champion_is_refused(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    with pytest.raises(TrackingError, match="has had no earlier champion"):
        roll_back(client, NAME, "Why not.")
    assert read_ledger(client, NAME).entries == ()


def test_roll_back_passes_over_versions_that_were_deleted(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    for number in (1, 2, 3):
        promote(client, versions[number], "Better.")
    client.delete_model_version(NAME, "2")
    roll_back(client, NAME, "Complaints.")
    assert champion_of(client) == "1"


def test_pin_and_unpin(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    with pytest.raises(TrackingError, match=r"version 1 is not the champion \(.* none\)"):
        pin(client, versions[1], "Early.")
    promote(client, versions[1], "The first.")
    with pytest.raises(TrackingError, match=r"version 2 .* 1\); `segpipe registry promote 2 --why \.\.\.` first"):
        pin(client, versions[2], "The wrong one.")
    with pytest.raises(TrackingError, match="'boxes' has no pinned champion"):
        unpin(client, NAME, "There is no pin.")

    assert pin(client, versions[1], "Before the fair.").is_pinned
    assert last_entry(client) == ("pinned", "1", "1", True)
    pin(client, versions[1], "Twice is once.")
    assert len(read_ledger(client, NAME).entries) == 2
    promote(client, versions[2], "By hand all the same.")
    assert champion_of(client) == "2"
    assert last_entry(client) == ("promoted", "1", "2", True)
    assert not unpin(client, NAME, "The fair is over.").is_pinned
    assert last_entry(client) == ("unpinned", "2", "2", False)


# Behind our back


def test_an_alias_moved_by_hand_is_noticed_entered_and_respected(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    promote(client, versions[1], "The first.")
    client.set_registered_model_alias(NAME, CHAMPION, "2")
    ledger = read_ledger(client, NAME)
    assert find_outside_change(client, ledger) == ("the alias champion was moved outside segpipe, from version 1 to 2")
    change_champion(client, NAME, keep)
    entries = [sealed.entry for sealed in read_ledger(client, NAME).entries]
    assert [entry.action for entry in entries] == ["promoted", "noticed", "not promoted"]
    assert entries[1].reasons == ("The alias champion was moved outside segpipe, from version 1 to 2.",)
    assert champion_of(client) == "2"
    roll_back(client, NAME, "Who did that?")
    assert champion_of(client) == "1"


def test_an_alias_set_before_there_was_a_ledger_is_taken_over(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    client.set_registered_model_alias(NAME, CHAMPION, "3")
    assert find_outside_change(client, read_ledger(client, NAME)) == (
        "the alias champion was set to version 3 outside segpipe"
    )
    settle(client)
    assert champion_of(client) == "3"
    assert last_entry(client) == ("noticed", None, "3", False)


def test_an_alias_deleted_by_hand_is_set_again(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    promote(client, versions[1], "The first.")
    pin(client, versions[1], "Stays.")
    client.delete_registered_model_alias(NAME, CHAMPION)
    assert find_outside_change(client, read_ledger(client, NAME)) == "the alias champion was deleted outside segpipe"
    settle(client)
    assert champion_of(client) == "1"
    assert last_entry(client) == ("noticed", "1", "1", True)


def test_a_version_registered_by_hand_may_be_champion(
    client: MlflowClient, versions: dict[int, ModelVersion], add_version: AddVersion
) -> None:
    promote(client, versions[1], "The first.")
    foreign = add_version()
    client.set_registered_model_alias(NAME, CHAMPION, foreign.version)
    ledger = settle(client)
    assert ledger.champion == Held(str(foreign.version), NOT_BY_SEGPIPE)
    assert champion_of(client) == str(foreign.version)


def test_a_champion_that_was_deleted_leaves_none_and_no_pin(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    promote(client, versions[1], "The first.")
    promote(client, versions[2], "Better.")
    pin(client, versions[2], "Stays.")
    client.delete_model_version(NAME, "2")
    ledger = settle(client)
    assert ledger.champion is None
    (reason,) = ledger.entries[-1].entry.reasons
    assert "deleted outside segpipe" in reason
    assert last_entry(client) == ("noticed", "2", None, False)
    assert champion_of(client) is None
    settle(client)  # said once
    assert len(read_ledger(client, NAME).entries) == 4
    roll_back(client, NAME, "The one before.")
    assert champion_of(client) == "1"


def test_a_number_that_means_another_model_is_not_the_champion(
    client: MlflowClient, versions: dict[int, ModelVersion], add_version: AddVersion
) -> None:
    promote(client, versions[1], "The first.")
    client.delete_registered_model(NAME)  # and numbers begin again
    other = add_version("weights of another model")
    assert other.version == "1" or other.version == 1
    assert settle(client).champion is None
    client.set_registered_model_alias(NAME, CHAMPION, "1")
    assert settle(client).champion == Held("1", "weights of another model")


def test_a_change_that_comes_while_one_looks_is_no_outside_change(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    promote(client, versions[1], "The first.")
    read_before = read_ledger(client, NAME)
    promote(client, versions[2], "Better.")
    assert find_outside_change(client, read_before) is None


# Ends in the middle


@pytest.mark.parametrize(
    ("call", "is_entered"),
    [
        ("create_registered_model", False),
        ("create_model_version", False),
        ("set_registered_model_tag", True),
        ("set_registered_model_alias", True),
        ("set_model_version_tag", True),
        ("delete_registered_model", True),
    ],
)
def test_a_change_that_was_killed_is_finished_by_the_next(
    client: MlflowClient,
    versions: dict[int, ModelVersion],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    is_entered: bool,
) -> None:
    monkeypatch.setattr("segpipe.registry.lock.LEASE_SECONDS", 5.0)
    promote(client, versions[1], "The first.")
    with killed_at(client, monkeypatch, call):
        promote(client, versions[2], "Better.")
    ledger = read_ledger(client, NAME)
    assert ledger.problems == ()
    assert (ledger.champion == identify(versions[2])) is is_entered
    assert find_champion(client, NAME) is not None  # at no moment without one

    settle(client)
    assert champion_of(client) == ("2" if is_entered else "1")
    assert len(read_ledger(client, NAME).entries) == (2 if is_entered else 1)


def test_what_is_said_while_the_alias_has_not_followed(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    with killed_at(client, monkeypatch, "set_registered_model_alias"):
        promote(client, versions[2], "Better.")
    said = find_outside_change(client, read_ledger(client, NAME))
    assert said is not None
    assert "`segpipe publish`" in said
    assert "outside" not in said


def test_an_alias_moved_by_hand_after_a_kill_is_respected(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    with killed_at(client, monkeypatch, "set_model_version_tag"):  # after the alias has moved
        promote(client, versions[2], "Better.")
    client.set_registered_model_alias(NAME, CHAMPION, "3")
    assert find_outside_change(client, read_ledger(client, NAME)) == (
        "the alias champion was moved outside segpipe, from version 2 to 3"
    )
    settle(client)
    assert champion_of(client) == "3"
    assert last_entry(client) == ("noticed", "2", "3", False)


def test_an_alias_that_was_lost_is_entered_before_it_is_set_again(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    client.delete_registered_model_alias(NAME, CHAMPION)
    with killed_at(client, monkeypatch, "set_registered_model_alias"):
        settle(client)
    assert last_entry(client)[0] == "noticed"
    settle(client)
    assert champion_of(client) == "1"


def test_a_version_that_was_deleted_before_the_alias_followed(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    with killed_at(client, monkeypatch, "set_registered_model_alias"):
        promote(client, versions[2], "Better.")
    client.delete_model_version(NAME, "2")
    settle(client)
    assert champion_of(client) == "1"


# What follows from the ledger: the aliases previous and challenger


def aliases_of(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


def keep_version(client: MlflowClient, version: ModelVersion) -> None:
    """Lets the gate refuse a version."""
    held = identify(version)
    change_champion(
        client, NAME, lambda ledger: Change("not promoted", held, ("Worse.",), ledger.champion, ledger.is_pinned, {})
    )


def test_previous_and_challenger_follow_every_decision(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    promote(client, versions[1], "The first.")
    assert aliases_of(client) == {"champion": "1"}
    keep_version(client, versions[2])
    assert aliases_of(client) == {"champion": "1", "challenger": "2"}
    promote(client, versions[3], "Better.")
    assert aliases_of(client) == {"champion": "3", "previous": "1", "challenger": "2"}
    keep_version(client, versions[4])
    assert aliases_of(client) == {"champion": "3", "previous": "1", "challenger": "4"}
    keep_version(client, versions[2])  # decided again: it is still older than version 4
    assert aliases_of(client)["challenger"] == "4"
    roll_back(client, NAME, "Complaints.")
    assert aliases_of(client) == {"champion": "1", "challenger": "4"}  # nothing is left to roll back to
    promote(client, versions[4], "By hand.")
    assert aliases_of(client) == {"champion": "4", "previous": "1", "challenger": "3"}


def test_previous_is_what_a_rollback_goes_to(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    for number in (1, 2, 3):
        promote(client, versions[number], "Better.")
    for _ in range(2):
        previous = aliases_of(client)["previous"]
        roll_back(client, NAME, "Complaints.")
        assert champion_of(client) == previous
    assert "previous" not in aliases_of(client)


def test_a_deleted_version_is_neither_previous_nor_challenger(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    for number in (1, 2, 3):
        promote(client, versions[number], "Better.")
    keep_version(client, versions[4])
    client.delete_model_version(NAME, "2")
    client.delete_model_version(NAME, "4")
    assert find_wrong_followers(client, read_ledger(client, NAME)) == {"previous": "1", "challenger": "1"}
    settle(client)
    assert aliases_of(client) == {"champion": "3", "previous": "1", "challenger": "1"}


def test_followers_that_were_moved_by_hand_are_set_again(
    client: MlflowClient, versions: dict[int, ModelVersion]
) -> None:
    promote(client, versions[1], "The first.")
    promote(client, versions[2], "Better.")
    client.set_registered_model_alias(NAME, "previous", "4")
    client.delete_registered_model_alias(NAME, "challenger")
    entries = read_ledger(client, NAME).entries
    assert find_wrong_followers(client, read_ledger(client, NAME)) == {"previous": "1", "challenger": "1"}
    settle(client)
    assert aliases_of(client) == {"champion": "2", "previous": "1", "challenger": "1"}
    assert read_ledger(client, NAME).entries == entries  # nothing was decided


@pytest.mark.parametrize("num_moves", [1, 2])
def test_followers_after_a_kill_are_set_by_the_next_change(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch, num_moves: int
) -> None:
    """Killed after so many of the three aliases were moved: the champion's is the first."""
    monkeypatch.setattr("segpipe.registry.lock.LEASE_SECONDS", 5.0)
    promote(client, versions[1], "The first.")
    move, moved = client.set_registered_model_alias, []

    def move_or_end(name: str, alias: str, version: str) -> None:
        if len(moved) == num_moves:
            raise Killed
        moved.append(alias)
        move(name, alias, version)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(client, "set_registered_model_alias", move_or_end)
        promote(client, versions[2], "Better.")
    assert champion_of_alias(client) == "2"
    settle(client)
    assert aliases_of(client) == {"champion": "2", "previous": "1", "challenger": "1"}
    assert champion_of(client) == "2"


def champion_of_alias(client: MlflowClient) -> str:
    found = find_champion(client, NAME)
    assert found is not None
    return str(found.version)


def test_a_ledger_that_names_no_numbers_moves_no_alias(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    promote(client, versions[1], "The first.")
    strange = Held("9" * 4000, "weights")  # as somebody who may write to the registry can enter
    change_champion(client, NAME, lambda ledger: Change("not promoted", strange, ("?",), ledger.champion, False, {}))
    assert aliases_of(client) == {"champion": "1"}


# Two at once


def test_who_was_slower_than_its_lease_writes_nothing(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    monkeypatch.setattr("segpipe.registry.lock.LEASE_SECONDS", 0.0)
    with pytest.raises(TrackingError, match="too slowly to change the champion safely; try again"):
        promote(client, versions[2], "Better.")
    assert champion_of(client) == "1"
    assert len(read_ledger(client, NAME).entries) == 1


def test_of_two_changes_on_one_ledger_the_second_is_refused(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")

    def append_second(client: MlflowClient, ledger: Ledger, entry: Any) -> Ledger | None:
        quicker = dataclasses.replace(entry, about=identify(versions[3]), champion_after=identify(versions[3]))
        assert append(client, ledger, quicker) is not None
        return append(client, ledger, entry)

    with monkeypatch.context() as patched:
        patched.setattr(champion, "append", append_second)
        with pytest.raises(TrackingError, match="another process changed 'boxes' at the same time; try again"):
            promote(client, versions[2], "Better.")
    settle(client)
    assert champion_of(client) == "3"
    assert read_ledger(client, NAME).decision_about(identify(versions[2])) is None


def test_an_alias_moved_late_goes_where_the_last_entry_says(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is stopped before it moves the alias; another takes the lock and promotes; then the first wakes."""
    promote(client, versions[1], "The first.")
    move = client.set_registered_model_alias

    def wake_late(name: str, alias: str, version: str) -> None:
        monkeypatch.setattr(client, "set_registered_model_alias", move)
        client.delete_registered_model("boxes.lock")  # as who has watched it for its lease
        promote(client, versions[3], "Better still.")
        move(name, alias, version)

    monkeypatch.setattr(client, "set_registered_model_alias", wake_late)
    promote(client, versions[2], "Better.")
    assert [s.entry.champion_after for s in read_ledger(client, NAME).entries] == [
        identify(versions[number]) for number in (1, 2, 3)
    ]
    assert champion_of(client) == "3"


def test_an_alias_that_does_not_move_is_an_error(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    with monkeypatch.context() as patched:
        patched.setattr(client, "set_registered_model_alias", lambda *_: None)
        with pytest.raises(TrackingError, match="the alias champion of 'boxes' did not move to version 2"):
            promote(client, versions[2], "Better.")
    settle(client)
    assert champion_of(client) == "2"


def test_the_lease_is_asked_before_each_write(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    for call in ("create_model_version", "set_registered_model_alias"):
        make = getattr(client, call)
        monkeypatch.setattr(client, call, lambda *a, call=call, make=make, **o: written.append(call) or make(*a, **o))
    monkeypatch.setattr(Lease, "check", lambda _: written.append("check"))
    promote(client, versions[1], "The first.")
    assert written == ["check", "create_model_version", "check", "set_registered_model_alias"]


def test_the_only_model_with_a_champion(client: MlflowClient, versions: dict[int, ModelVersion]) -> None:
    with pytest.raises(TrackingError, match="no champion of any model"):
        find_only_champion(client)
    promote(client, versions[1], "The first.")
    assert find_only_champion(client) == NAME  # and not the model that holds the ledger
    client.create_registered_model("streets")
    other = client.create_model_version("streets", source="runs:/x/model", await_creation_for=0)
    client.set_registered_model_alias("streets", CHAMPION, other.version)
    with pytest.raises(TrackingError, match=r"models:/boxes@champion, .*models:/streets@champion"):
        find_only_champion(client)


def test_an_error_at_the_other_aliases_does_not_make_a_change_look_undone(
    client: MlflowClient, versions: dict[int, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, versions[1], "The first.")
    promote(client, versions[2], "Better.")

    def fail(*given: object) -> None:
        raise MlflowException("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(champion, "find_wrong_followers", fail)
        roll_back(client, NAME, "Wrong labels.")
    assert champion_of(client) == "1"
