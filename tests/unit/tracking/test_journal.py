"""The journal survives kills and repetitions."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.tracking.journal import JOURNAL, Journal

PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "run")
    journal.begin()
    return journal


def _cut(journal: Journal, num_chars: int) -> None:
    """Leaves what a kill in the middle of writing would."""
    path = journal.folder / JOURNAL
    path.write_text(path.read_text()[:-num_chars])


def test_entries_come_back_in_order(journal: Journal) -> None:
    before = time.time_ns() // 1_000_000
    journal.log_metrics({"train_loss": 0.5, "val_mean_iou": 0.25}, 1)
    journal.log_image("street_000", PICTURE, 1)
    journal.log_metrics({"train_loss": float("nan")}, 2)
    first, picture, second = journal.entries()
    assert (first.epoch, first.metrics, first.image) == (1, {"train_loss": 0.5, "val_mean_iou": 0.25}, None)
    assert before <= first.time_ms <= picture.time_ms <= second.time_ms <= before + 60_000
    assert (picture.epoch, picture.name, picture.metrics) == (1, "street_000", {})
    assert picture.image is not None
    with Image.open(picture.image) as written:
        np.testing.assert_array_equal(np.asarray(written), PICTURE)
    assert np.isnan(second.metrics["train_loss"])


def test_a_begun_journal_is_empty(journal: Journal) -> None:
    assert journal.entries() == []
    assert len(journal.attempt) == 32
    assert Journal(journal.folder).attempt == journal.attempt


def test_an_unfinished_journal_goes_on_and_a_finished_one_makes_way(journal: Journal) -> None:
    attempt = journal.attempt
    journal.log_metrics({"a": 1}, 1)
    journal.begin()
    assert (journal.attempt, len(journal.entries())) == (attempt, 1)
    journal.finish()
    assert len(journal.entries()) == 1
    journal.begin()
    assert journal.attempt != attempt
    assert journal.entries() == []


def test_a_journal_that_was_not_begun_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _ = Journal(tmp_path).attempt


@pytest.mark.parametrize("num_chars", [2, 10, 40])
def test_half_a_line_is_passed_over_and_what_follows_is_kept(journal: Journal, num_chars: int) -> None:
    journal.log_metrics({"a": 1}, 1)
    journal.log_metrics({"a": 2}, 2)
    _cut(journal, num_chars)
    assert [entry.epoch for entry in journal.entries()] == [1]
    journal.log_metrics({"a": 2}, 2)
    journal.log_metrics({"a": 3}, 3)
    assert [(entry.epoch, entry.metrics) for entry in journal.entries()] == [
        (1, {"a": 1}),
        (2, {"a": 2}),
        (3, {"a": 3}),
    ]
    assert journal.attempt


def test_a_line_without_its_end_is_whole(journal: Journal) -> None:
    journal.log_metrics({"a": 1}, 1)
    _cut(journal, 1)
    journal.log_metrics({"a": 2}, 2)
    assert [entry.epoch for entry in journal.entries()] == [1, 2]


def test_of_an_epoch_reported_twice_the_first_counts(journal: Journal) -> None:
    for value in (1, 2):
        journal.log_metrics({"a": value}, 1)
        journal.log_image("x", PICTURE, 1)
        journal.log_image("y", PICTURE, 1)
    journal.log_image("x", PICTURE, 2)
    entries = journal.entries()
    assert [(entry.epoch, entry.name) for entry in entries] == [(1, ""), (1, "x"), (1, "y"), (2, "x")]
    assert entries[0].metrics == {"a": 1}


def test_names_with_folders_and_signs_are_kept(journal: Journal) -> None:
    names = ["seq/0", "straße 1"]
    for name in names:
        journal.log_image(name, PICTURE, 1)
    entries = journal.entries()
    assert [entry.name for entry in entries] == names
    assert all(entry.image is not None and entry.image.is_file() for entry in entries)


def test_two_names_are_two_files(journal: Journal) -> None:
    journal.log_image("a/b", PICTURE, 1)
    journal.log_image("a-b", PICTURE, 1)
    assert len({entry.image for entry in journal.entries()}) == 2
