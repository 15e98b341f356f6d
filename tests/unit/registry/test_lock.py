"""One holder at a time on a real MLflow store, whoever is killed, slow, or left without an answer."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient

from segpipe.errors import TrackingError
from segpipe.registry import lock
from segpipe.registry.lock import hold_lock
from segpipe.tracking.tags import HOLDER

NAME, LOCK = "boxes", "boxes.lock"
GHOST = "ghost@machine 0123"


class Clock:
    """Time that passes only while the lock's code sleeps, however busy the machine is."""

    def __init__(self) -> None:
        self.now, self.at = 0.0, dict[float, Callable[[], object]]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [when for when in self.at if when <= self.now]:
            self.at.pop(when)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Takes the place of the time that the lock's code sees; calls what is in `at` when it is time."""
    clock = Clock()
    monkeypatch.setattr(lock, "time", clock)
    return clock


@pytest.fixture
def take_turns(client: MlflowClient) -> Callable[[int, float], int]:
    """Lets `num` threads hold the lock for `seconds` each; gives how many held it at the same time at most."""

    def run(num: int, seconds: float) -> int:
        inside, most = [0], [0]
        counting = threading.Lock()

        @contextmanager
        def counted() -> Iterator[None]:
            with counting:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            yield
            with counting:
                inside[0] -= 1

        def work(_: int) -> None:
            with hold_lock(client, NAME), counted():
                time.sleep(seconds)

        with ThreadPoolExecutor(num) as threads:
            list(threads.map(work, range(num)))
        return most[0]

    return run


def test_the_lock_is_there_while_it_is_held_and_nothing_afterwards(client: MlflowClient) -> None:
    with hold_lock(client, NAME) as lease:
        lease.check()
        (found,) = client.search_registered_models()
        assert found.name == LOCK
        assert found.tags[HOLDER].split()[0] == lock.describe_self()
        assert found.description.endswith("is changing the champion; this goes away by itself.")
    assert client.search_registered_models() == []


def test_the_lease_begins_when_the_others_may_see_the_holder(
    client: MlflowClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = client.create_registered_model

    def answer_late(*arguments: Any) -> Any:
        made = create(*arguments)
        clock.now += lock.LEASE_SECONDS
        return made

    monkeypatch.setattr(client, "create_registered_model", answer_late)
    with hold_lock(client, NAME) as lease, pytest.raises(TrackingError, match="too slowly"):
        lease.check()


def test_an_error_releases_it(client: MlflowClient) -> None:
    with pytest.raises(ZeroDivisionError), hold_lock(client, NAME):
        raise ZeroDivisionError
    assert client.search_registered_models() == []


def test_one_at_a_time(client: MlflowClient, take_turns: Callable[[int, float], int]) -> None:
    assert take_turns(5, 0.05) == 1
    assert client.search_registered_models() == []


def test_locks_of_two_models_do_not_know_each_other(client: MlflowClient) -> None:
    with hold_lock(client, NAME), hold_lock(client, "others"):
        assert {model.name for model in client.search_registered_models()} == {LOCK, "others.lock"}


@pytest.mark.parametrize("tags", [{HOLDER: GHOST}, {}], ids=["killed", "made-by-hand"])
def test_what_was_left_behind_is_removed_after_the_lease(
    client: MlflowClient, clock: Clock, caplog: pytest.LogCaptureFixture, tags: dict[str, str]
) -> None:
    client.create_registered_model(LOCK, tags)
    with caplog.at_level(logging.WARNING), hold_lock(client, NAME):
        assert lock.LEASE_SECONDS < clock.now < lock.LEASE_SECONDS + 1
    who = "ghost@machine" if tags else "somebody"
    assert f"{LOCK} was left behind by {who}, which has ended; it is removed" in caplog.text
    assert client.search_registered_models() == []


def test_a_model_that_has_the_name_of_the_lock_is_not_removed(client: MlflowClient, clock: Clock) -> None:
    client.create_registered_model(LOCK)
    client.create_model_version(LOCK, "file:///somewhere", await_creation_for=0)
    with pytest.raises(TrackingError, match=f"registered model '{LOCK}' has versions"), hold_lock(client, NAME):
        pass
    assert client.get_model_version(LOCK, "1").source == "file:///somewhere"
    assert clock.now < lock.LEASE_SECONDS + 1


def test_a_holder_that_changes_is_alive(client: MlflowClient, clock: Clock) -> None:
    client.create_registered_model(LOCK, {HOLDER: GHOST})
    for number in range(1, 5):
        change = functools.partial(client.set_registered_model_tag, LOCK, HOLDER, f"ghost@machine {number}")
        clock.at[20.0 * number] = change
    with hold_lock(client, NAME):
        assert 80 + lock.LEASE_SECONDS < clock.now < 82 + lock.LEASE_SECONDS  # the lease counts from the last change


def test_of_two_who_find_it_left_behind_the_slow_one_does_not_remove_the_other_ones(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, take_turns: Callable[[int, float], int]
) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 2.0)
    delete, is_first = client.delete_registered_model, [True]

    def delete_late(name: str) -> None:
        if name == LOCK and is_first[0]:
            is_first[0] = False
            time.sleep(0.6)  # between looking whose it is and removing it
        delete(name)

    monkeypatch.setattr(client, "delete_registered_model", delete_late)
    client.create_registered_model(LOCK, {HOLDER: GHOST})
    assert take_turns(2, 0.9) == 1
    assert client.search_registered_models() == []


def test_who_removes_what_was_left_behind_may_be_killed_too(client: MlflowClient, clock: Clock) -> None:
    client.create_registered_model(LOCK, {HOLDER: GHOST})
    client.create_registered_model(f"{LOCK}.lock", {HOLDER: GHOST})
    with hold_lock(client, NAME):
        assert clock.now > 2 * lock.LEASE_SECONDS
        assert [model.name for model in client.search_registered_models()] == [LOCK]
    assert client.search_registered_models() == []


def test_waiting_ends_with_a_message(client: MlflowClient, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT_SECONDS", 10.0)
    client.create_registered_model(LOCK, {HOLDER: GHOST})
    message = f"registered model '{LOCK}' is held by {GHOST}; delete it if that process has ended"
    with pytest.raises(TrackingError, match=message), hold_lock(client, NAME):
        pass
    assert 10 < clock.now < 11
    assert client.get_registered_model(LOCK).tags[HOLDER] == GHOST  # never taken away from one who may be alive


def test_a_lease_that_ran_out_refuses(client: MlflowClient, clock: Clock) -> None:
    with hold_lock(client, NAME) as lease:
        clock.now += lock.LEASE_SECONDS / 2
        lease.check()
        clock.now += 0.001  # more than half: the others may remove the lock after twice that
        with pytest.raises(TrackingError, match="too slowly to change the champion safely; try again"):
            lease.check()


def test_who_lost_the_lock_does_not_release_the_next_holder(client: MlflowClient) -> None:
    with hold_lock(client, NAME):
        client.set_registered_model_tag(LOCK, HOLDER, GHOST)
    assert client.get_registered_model(LOCK).tags[HOLDER] == GHOST


def test_a_lock_whose_answer_was_lost_is_held(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    create, calls = client.create_registered_model, []

    def create_and_lose_the_answer(*args: Any) -> Any:
        calls.append(args)
        found = create(*args)
        if len(calls) == 1:
            raise MlflowException("the server went away", TEMPORARILY_UNAVAILABLE)
        return found

    monkeypatch.setattr(client, "create_registered_model", create_and_lose_the_answer)
    with hold_lock(client, NAME):
        assert len(calls) == 2
    assert client.search_registered_models() == []


def test_a_holder_that_leaves_while_mlflow_looks_at_it_is_no_error(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, calls = client.create_registered_model, []

    def find_it_taken_then_gone(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise MlflowException(f"Registered Model with name={LOCK} not found", RESOURCE_DOES_NOT_EXIST)
        return create(*args)

    monkeypatch.setattr(client, "create_registered_model", find_it_taken_then_gone)
    with hold_lock(client, NAME):
        assert len(calls) == 2
