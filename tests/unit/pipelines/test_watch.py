"""What a look for new labels finds."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines import watch


class Variables:
    """Stands for Prefect's variables: the server keeps them."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, name: str, default: Any) -> Any:
        return self.values.get(name, default)

    def set(self, name: str, value: Any, overwrite: bool) -> None:
        self.values[name] = value


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The payloads of the events that were emitted."""
    payloads: list[Any] = []

    def find(branch: str) -> str:
        time.sleep(0.05)  # a fetch from the origin
        return "sha2 blob2"

    monkeypatch.setattr(watch, "HOME", tmp_path)
    monkeypatch.setattr(watch, "_pushed", find)
    monkeypatch.setattr(watch, "_source", lambda say: "")
    monkeypatch.setattr(watch, "Variable", Variables(**{watch.SEEN: {"pushed": "sha1 blob1", "source": ""}}))
    monkeypatch.setattr(watch, "emit_event", lambda event, resource, payload: payloads.append(payload))
    return payloads


def test_what_two_looks_at_once_find_is_found_by_one(told: list[Any]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: watch._tell_changes("main", print), range(4)))
    assert sorted(map(len, found)) == [0, 0, 0, 1]
    assert max(found) == [("origin/main", "sha2", "a new data.dvc was pushed")]
    assert told == [{"revision": "sha2", "what": "a new data.dvc was pushed"}]


def test_a_look_that_ends_before_it_has_told_is_made_again(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(watch, "emit_event", end)
        with pytest.raises(SystemExit):
            watch._tell_changes("main", print)
    watch._tell_changes("main", print)
    assert [payload["revision"] for payload in told] == ["sha2"]


def test_the_first_look_takes_what_is_pushed_as_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "Variable", Variables())
    assert watch._tell_changes("main", print) == []


def test_an_origin_that_gave_no_answer_once_starts_no_retraining(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(watch._tell_changes("main", print)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(watch, "_pushed", lambda branch: "")
        assert watch._tell_changes("main", print) == []
    assert watch._tell_changes("main", print) == []
