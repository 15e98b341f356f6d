"""A registry whose alias moves, with models that can be loaded, and others."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from facts import missing
from unit.serving.conftest import Reddest

from segpipe.classes import ClassTable
from segpipe.errors import IncomparableError, ServingError, TrackingError
from segpipe.serving import following
from segpipe.serving.backends import Served
from segpipe.serving.following import FAILED, LOADED, MISSING, UNREACHABLE, Follower, Source, Watch
from segpipe.serving.roles import CHALLENGER, CHAMPION, Role


class Registry:
    """What the alias names, and what happens when it is asked."""

    def __init__(self, classes: ClassTable, folder: Path) -> None:
        self.version: str | None = "1"
        self.is_up = True
        self.error: Exception = TrackingError("MLflow cannot be used")
        self.broken: set[str] = set()
        self.outcomes: list[str] = []
        self.fetch_error: Exception | None = None
        self.fetched: list[str] = []
        self.loaded: list[str] = []
        self._classes = classes
        self.source = Source("boxes", "champion", self._find, self._fetch)
        self.follower = self.follow(self._serve("1"), folder, CHAMPION)

    def follow(self, served: Served | None, folder: Path, role: Role) -> Follower:
        return Follower(served, folder, self.source, self._load, role, self.outcomes.append)

    def _serve(self, version: str) -> Served:
        return Served(Reddest(self._classes), "onnx", "boxes", version)

    def _find(self) -> str | None:
        if not self.is_up:
            raise self.error
        return self.version

    def _fetch(self, version: str, folder: Path) -> Path:
        assert not list(folder.iterdir())
        self.fetched.append(version)
        if self.fetch_error is not None:
            raise self.fetch_error
        return folder

    def _load(self, folder: Path, version: str) -> Served:
        self.loaded.append(version)
        if version in self.broken:
            raise ServingError(f"version {version} is broken")
        return self._serve(version)


@pytest.fixture
def registry(classes: ClassTable, tmp_path: Path) -> Registry:
    return Registry(classes, tmp_path)


def test_the_newest_version_is_served(registry: Registry) -> None:
    registry.follower.poll()
    assert registry.outcomes == []
    registry.version = "2"
    registry.follower.poll()
    assert registry.follower.served.version == "2"
    assert registry.outcomes == [LOADED]


def test_a_workspace_that_the_system_removed_is_made_again_for_its_owner(registry: Registry, tmp_path: Path) -> None:
    tmp_path.rmdir()
    registry.version = "2"
    registry.follower.poll()
    assert registry.follower.served.version == "2"
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_workspace_of_another_user_is_not_used(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    registry.version = "2"
    registry.follower.poll()
    assert registry.fetched == []
    assert not missing(registry.follower.trouble.reason, str(tmp_path), "another user")


class Clock:
    """Takes the place of `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    replaced = Clock()
    monkeypatch.setattr(following, "time", replaced)
    return replaced


def test_a_version_that_failed_is_tried_again_after_growing_pauses(registry: Registry, clock: Clock) -> None:
    registry.version, registry.broken = "2", {"2"}
    tried = []
    for second in range(0, 20_000, 10):
        clock.now, before = second, len(registry.loaded)
        registry.follower.poll()
        tried += [second] * (len(registry.loaded) - before)
    pauses = np.diff(tried)
    assert pauses[:5].tolist() == [10, 20, 40, 80, 160]
    assert pauses.max() == pauses[-1] == 3600
    registry.broken = set()  # the disk has room again
    clock.now += 3600
    registry.follower.poll()
    assert (registry.follower.served.version, registry.follower.trouble) == ("2", None)


@pytest.mark.parametrize(
    ("error", "outcome", "num_downloads"),
    [
        (TrackingError("cannot be downloaded"), UNREACHABLE, 10),
        (IncomparableError("not registered by segpipe"), FAILED, 4),
    ],
)
def test_a_download_that_failed_is_not_repeated_at_each_poll(
    registry: Registry, clock: Clock, error: Exception, outcome: str, num_downloads: int
) -> None:
    registry.version, registry.fetch_error = "2", error
    for _ in range(3):
        registry.follower.poll()
    assert (registry.fetched, registry.outcomes) == (["2"], [outcome])
    registry.is_up = False
    registry.follower.poll()
    assert registry.follower.trouble.version is None
    registry.is_up = True
    registry.follower.poll()
    assert (registry.follower.trouble.version, registry.follower.trouble.reason) == ("2", str(error))
    assert registry.fetched == ["2"]
    for clock.now in range(10, 100, 10):
        registry.follower.poll()
    assert registry.fetched == ["2"] * num_downloads
    registry.version = "3"
    registry.follower.poll()
    assert registry.fetched[num_downloads:] == ["3"]


def test_a_version_that_cannot_be_used_is_named(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    registry.version, registry.broken = "2", {"2"}
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            registry.follower.poll()
    assert registry.follower.served.version == "1"
    assert registry.follower.trouble is not None
    assert (registry.follower.trouble.version, registry.follower.trouble.reason) == ("2", "version 2 is broken")
    assert registry.loaded == ["2"]
    assert registry.outcomes == [FAILED]
    (line,) = [json.loads(record.message) for record in caplog.records]
    assert (line["event"], line["version"], line["serving"]) == ("model not changed", "2", "1")
    registry.version = "1"
    registry.follower.poll()
    assert registry.follower.trouble is None
    registry.version = "3"
    registry.follower.poll()
    assert registry.follower.served.version == "3"


@pytest.mark.parametrize("error", [TrackingError("MLflow cannot be used"), http.client.BadStatusLine("no HTTP")])
def test_a_registry_that_is_away_is_told_once_and_asked_again(
    registry: Registry, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    registry.is_up, registry.error = False, error
    for _ in range(3):
        registry.follower.poll()
    assert len(caplog.records) == 1
    assert registry.outcomes == [UNREACHABLE] * 3
    assert registry.follower.trouble is not None
    registry.is_up, registry.version = True, "2"
    registry.follower.poll()
    assert registry.follower.served.version == "2"
    assert registry.follower.trouble is None


def wait_for_model(follower: Follower, watch: Watch) -> None:
    for _ in range(500):
        if follower.served is not None:
            break
        watch._thread.join(0.01)


def test_the_thread_follows_both_and_ends(registry: Registry, tmp_path: Path) -> None:
    challenger = registry.follow(None, tmp_path, CHALLENGER)
    watch = Watch(registry.follower, challenger, 0.01)
    registry.version = "2"
    watch.start()
    wait_for_model(challenger, watch)
    watch.stop()
    watch._thread.join(5)
    assert registry.follower.served.version == challenger.served.version == "2"
    assert not watch._thread.is_alive()


def test_the_end_waits_for_a_load_only_so_long(registry: Registry, tmp_path: Path) -> None:
    loading, may_end = threading.Event(), threading.Event()

    def load(folder: Path, version: str) -> Served:
        loading.set()
        may_end.wait(20)
        return registry._serve(version)

    watch = Watch(Follower(None, tmp_path, registry.source, load))
    assert watch.join(0)  # it was never started
    watch.start()
    assert loading.wait(20)
    watch.stop()
    assert not watch.join(0.01)
    may_end.set()
    assert watch.join(20)


def test_a_service_without_a_model_asks_at_once(registry: Registry, tmp_path: Path) -> None:
    champion = registry.follow(None, tmp_path, CHAMPION)
    watch = Watch(champion, None, 600)
    watch.start()
    wait_for_model(champion, watch)
    watch.stop()
    assert champion.served.version == "1"


def test_a_champion_stays_when_its_alias_is_deleted_and_a_first_one_is_waited_for(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.version = None
    first = registry.follow(None, tmp_path, CHAMPION)
    for follower in (registry.follower, first):
        follower.poll()
        follower.poll()
        assert "champion" in follower.trouble.reason
        assert "boxes" in follower.trouble.reason
    assert registry.follower.served.version == "1"
    assert first.served is None
    assert registry.outcomes == [MISSING] * 4
    events = [json.loads(record.message)["event"] for record in caplog.records]
    assert events == ["model not changed", "waiting for a model"]


def test_a_challenger_goes_with_its_alias_and_comes_again(registry: Registry, tmp_path: Path) -> None:
    challenger = registry.follow(None, tmp_path, CHALLENGER)
    registry.version = None
    challenger.poll()
    assert (challenger.served, challenger.trouble, registry.outcomes) == (None, None, [])
    registry.version = "2"
    challenger.poll()
    assert challenger.served.version == "2"
    registry.is_up = False  # which says nothing about the alias
    challenger.poll()
    assert challenger.served.version == "2"
    registry.is_up, registry.version = True, None
    challenger.poll()
    assert (challenger.served, challenger.trouble) == (None, None)
    assert registry.outcomes == [LOADED, UNREACHABLE, MISSING]
