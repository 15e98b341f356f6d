"""The journal survives kills and repetitions."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.tracking.journal import DAMAGED_JOURNAL, JOURNAL, Entry, Journal, _to_line

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


def test_a_journal_goes_on_until_a_new_attempt_is_asked_for(journal: Journal) -> None:
    attempt = journal.attempt
    journal.log_metrics({"a": 1}, 1)
    journal.begin()
    assert (journal.attempt, len(journal.entries()), journal.result) == (attempt, 1, None)
    journal.finish("abc.dir")
    journal.begin()
    assert (journal.attempt, len(journal.entries()), journal.result) == (attempt, 1, "abc.dir")
    journal.begin(is_new_attempt=True)
    assert journal.attempt != attempt
    assert (journal.entries(), journal.result) == ([], None)


def test_a_line_of_a_later_release_may_hold_more(journal: Journal) -> None:
    line = {"attempt": journal.attempt, "epoch": 1, "time_ms": 5, "metrics": {"a": 1.0}, "power_watts": 250.0}
    with (journal.folder / JOURNAL).open("ab") as file:
        file.write(_to_line(line))
    assert journal.entries() == [Entry(1, 5, {"a": 1.0})]


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


# Damage


def _write(journal: Journal) -> bytes:
    for epoch in (1, 2, 3):
        journal.log_metrics({"train_loss": 0.5, "val_mean_iou": float("nan")}, epoch)
    journal.log_image("x", PICTURE, 3)
    return (journal.folder / JOURNAL).read_bytes()


def test_a_flipped_bit_anywhere_costs_its_line_and_never_changes_a_value(journal: Journal) -> None:
    attempt, content = journal.attempt, _write(journal)
    whole = {str(entry) for entry in journal.entries()}
    for place in range(len(content)):
        for bit in (0, 4, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            (journal.folder / JOURNAL).write_bytes(damaged)
            assert journal.attempt == attempt
            entries = {str(entry) for entry in journal.entries()}
            assert entries <= whole, place
            assert len(entries) >= len(whole) - 2  # a lost end of line joins two


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00 no text", b"{}", b"[1, 2]\n", b'{"attempt": "ab'])
def test_a_journal_of_which_nothing_can_be_read_is_set_aside_and_the_attempt_stays(
    journal: Journal, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = journal.attempt
    _write(journal)
    (journal.folder / JOURNAL).write_bytes(content)
    again = Journal(journal.folder)
    with pytest.raises(FileNotFoundError):
        _ = again.attempt
    again.begin()
    assert (again.attempt, again.entries()) == (attempt, [])
    assert str(journal.folder / JOURNAL) in caplog.text
    assert (journal.folder / DAMAGED_JOURNAL).read_bytes() == content


def test_epochs_that_damage_has_taken_are_told_again(journal: Journal) -> None:
    lines = _write(journal).splitlines(keepends=True)
    (journal.folder / JOURNAL).write_bytes(b"".join([*lines[:2], b"x" + lines[2], *lines[3:]]))
    assert [entry.epoch for entry in journal.entries() if entry.image is None] == [1, 3]
    history = [{"epoch": epoch, "train_loss": 0.5} for epoch in (1, 2, 3)]
    for _ in range(2):
        journal.complete(history)
        metrics = {entry.epoch: entry.metrics for entry in journal.entries() if entry.image is None}
        assert sorted(metrics) == [1, 2, 3]
        assert metrics[2] == {"train_loss": 0.5}
    assert len((journal.folder / JOURNAL).read_bytes().splitlines()) == 6


def test_what_is_written_is_synced_to_the_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    journal.log_metrics({"a": 1}, 1)
    assert (journal.folder / JOURNAL).stat().st_ino in synced


def test_a_full_disk_names_the_journal_and_its_lines_stay(journal: Journal) -> None:
    _write(journal)
    num_bytes, before = (journal.folder / JOURNAL).stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so a longer write fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes + 10, before[1]))
    try:
        with pytest.raises(OSError, match=rf"\[Errno 27\].*{JOURNAL}"):
            journal.log_metrics({"train_loss": 0.5}, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.log_metrics({"train_loss": 0.25}, 4)
    assert [entry.metrics for entry in journal.entries()][-1] == {"train_loss": 0.25}
