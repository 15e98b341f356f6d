"""`segpipe clean`: trainings that it takes for given up, files of one that runs, a question without an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from segpipe.cli import clean
from segpipe.config.train import Train
from segpipe.places import CHECKPOINTS, TRAINING_FILE


def _interrupt(settings: Train) -> Path:
    """Leaves what an interrupted training of these settings does."""
    folder = CHECKPOINTS / ("c" * 64)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINING_FILE).write_text(json.dumps({"params": {"train": settings.decisive()}}), encoding="utf-8")
    (folder / "checkpoint.pt").write_bytes(b"x")
    (folder / "journal.jsonl").write_bytes(b"")
    return folder


def test_an_interrupted_training_that_chose_for_auto_is_kept(
    make_train_settings: Callable[..., Train], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = make_train_settings(precision="auto", micro_batch="auto")
    folder = _interrupt(make_train_settings(precision="bf16", micro_batch=2))
    assert [*clean._find(asked)] == []
    for other in (make_train_settings(precision="float32", micro_batch="auto"), make_train_settings(seed=1)):
        assert [left_over.path for left_over in clean._find(other)] == [folder]
    _interrupt(make_train_settings(precision="bf16", micro_batch=2, seed=1))
    assert [left_over.path for left_over in clean._find(asked)] == [folder]


def test_a_file_that_is_gone_when_it_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"12345")
    (tmp_path / ".checkpoint.pt.7.part").symlink_to("gone")  # it is listed, but cannot be looked at
    left_over = clean.LeftOver(tmp_path, "", tmp_path)
    assert left_over.num_bytes == 5
    assert clean._last_change(tmp_path) == max(path.stat().st_mtime for path in (tmp_path, tmp_path / "journal.jsonl"))


def test_no_answer_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_of_input(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end_of_input)
    monkeypatch.setattr(clean.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert not clean._is_confirmed("delete?")
