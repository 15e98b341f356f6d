"""A registry whose alias moves, with models that can be loaded, and others."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from unit.serving.conftest import Reddest

from segpipe.classes import ClassTable
from segpipe.errors import ServingError, TrackingError
from segpipe.serving.backends import Served
from segpipe.serving.following import FAILED, LOADED, UNREACHABLE, Follower, Source


class Registry:
    """What the alias names, and what happens when it is asked."""

    def __init__(self, classes: ClassTable, folder: Path) -> None:
        self.version, self.is_up = "1", True
        self.broken: set[str] = set()
        self.outcomes: list[str] = []
        self.loaded: list[str] = []
        self._classes = classes
        source = Source("boxes", self._find, self._fetch)
        self.follower = Follower(self._serve("1"), folder, source, self._load, 0.01, self.outcomes.append)

    def _serve(self, version: str) -> Served:
        return Served(Reddest(self._classes), "onnx", "boxes", version)

    def _find(self) -> str:
        if not self.is_up:
            raise TrackingError("MLflow cannot be used")
        return self.version

    def _fetch(self, version: str, folder: Path) -> Path:
        assert not list(folder.iterdir())
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


def test_a_version_that_cannot_be_used_is_tried_once_and_named(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_a_registry_that_is_away_is_told_once_and_asked_again(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.is_up = False
    for _ in range(3):
        registry.follower.poll()
    assert len(caplog.records) == 1
    assert registry.outcomes == [UNREACHABLE] * 3
    assert registry.follower.trouble is not None
    registry.is_up, registry.version = True, "2"
    registry.follower.poll()
    assert registry.follower.served.version == "2"
    assert registry.follower.trouble is None


def test_the_thread_follows_and_ends(registry: Registry) -> None:
    registry.version = "2"
    registry.follower.start()
    for _ in range(500):
        if registry.follower.served.version == "2":
            break
        registry.follower._thread.join(0.01)
    registry.follower.stop()
    registry.follower._thread.join(5)
    assert registry.follower.served.version == "2"
    assert not registry.follower._thread.is_alive()
