"""Which trainings `segpipe clean` takes for given up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.cli.clean import _find
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
    assert [*_find(asked)] == []
    for other in (make_train_settings(precision="float32", micro_batch="auto"), make_train_settings(seed=1)):
        assert [left_over.path for left_over in _find(other)] == [folder]
    _interrupt(make_train_settings(precision="bf16", micro_batch=2, seed=1))
    assert [left_over.path for left_over in _find(asked)] == [folder]
