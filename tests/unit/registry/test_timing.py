"""Which files are timed; the times themselves are a fake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segpipe.code import PACKAGE
from segpipe.config.register import Register
from segpipe.registry import timing
from segpipe.registry.measuring.measure import Latency
from segpipe.registry.measuring.trust import Runnable
from segpipe.registry.timing import time_models

RESULTS = SimpleNamespace(dataset_folder=Path("dataset"), copy_model=lambda folder: folder.mkdir())


class Fakes:
    """Versions by number, those that hold an export, and what was timed and made."""

    def __init__(self, patch: pytest.MonkeyPatch, holders: Sequence[str]) -> None:
        self.holders = holders
        self.timed: list[Runnable] = []
        self.made: list[str] = []
        for name in ("latency_of_served", "download_model", "fetch_export", "export_version", "make_exports"):
            patch.setattr(timing, name, getattr(self, name))

    def latency_of_served(self, models: Sequence[Runnable], store: object) -> list[Latency]:
        self.timed = list(models)
        return [Latency(10.0 * (number + 1), 0.0, 0.0) for number in range(len(models))]

    def download_model(self, version: Any, folder: Path) -> tuple[Runnable, tuple[str, ...]]:
        return Runnable(Path(f"files {version.version}"), PACKAGE.parent), ()

    def fetch_export(self, client: object, version: Any, form: str, folder: Path) -> Path | None:
        return Path(f"{form} of {version.version}") if version.version in self.holders else None

    def export_version(self, model: Runnable, form: str, dataset: Path, output: Path) -> None:
        self.made.append(f"{form} of {model.model}")

    @contextmanager
    def make_exports(self, results: object, formats: Sequence[str]) -> Iterator[dict[str, Path]]:
        self.made += [f"{form} of the results" for form in formats]
        yield {form: Path(f"{form} of the results") for form in formats}

    def time(self, backend: str, version: str | None, champion: str | None) -> list[float]:
        export = [] if backend == "torch" else [backend]
        budget = {"backend": backend, "latency_ms": 1.0}
        policy = Register.model_validate({"model_name": "m", "export": export, "budget": budget})
        versions = [None if number is None else SimpleNamespace(version=number) for number in (version, champion)]
        return time_models(None, policy, RESULTS, None, *versions)  # type: ignore[arg-type]


def test_the_networks_are_timed_without_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(monkeypatch, ["1", "2"])
    assert fakes.time("torch", "2", "1") == [10.0, 20.0]
    assert not any(model.is_export for model in fakes.timed)
    assert not fakes.made


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_exports_that_are_held_are_timed(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    fakes = Fakes(monkeypatch, ["1", "2"])
    assert fakes.time(backend, "2", "1") == [10.0, 20.0]
    assert [str(model.model) for model in fakes.timed] == [f"{backend} of 2", f"{backend} of 1"]
    assert all(model.is_export for model in fakes.timed)
    assert not fakes.made


def test_a_champion_without_an_export_gets_one_for_the_time_of_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(monkeypatch, ["2"])
    assert fakes.time("onnx", "2", "1") == [10.0, 20.0]
    assert fakes.made == ["onnx of files 1"]


def test_a_model_that_is_not_registered_is_exported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(monkeypatch, ["1"])
    assert fakes.time("onnx", None, None) == [10.0]
    assert fakes.made == ["onnx of the results"]
