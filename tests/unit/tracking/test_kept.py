"""The lineage of a training that MLflow did not get at its time."""

from pathlib import Path

import pytest

from segpipe.tracking.journal import Journal
from segpipe.tracking.kept import KEPT, TAGS_FILE, Lineage, keep_lineage, read_kept

THEN = Lineage({"segpipe.git_commit": "a" * 40}, {"params.yaml": b"train: {}\n", "more/data.dvc": b"\xff\x00"})
LATER = Lineage({"segpipe.git_commit": "b" * 40}, {})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    begun = Journal(tmp_path)
    begun.begin()
    return begun


def test_the_lineage_of_an_attempt_stays_as_it_was_when_it_began(journal: Journal) -> None:
    assert read_kept(journal) is None
    assert keep_lineage(journal, THEN) == THEN
    journal.begin()  # it goes on after an interruption
    assert keep_lineage(journal, LATER) == read_kept(journal) == THEN


def test_a_new_attempt_has_its_own(journal: Journal) -> None:
    keep_lineage(journal, THEN)
    journal.begin(is_new_attempt=True)
    assert read_kept(journal) is None
    assert keep_lineage(journal, LATER) == read_kept(journal) == LATER


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempt": 1}'])
def test_a_damaged_one_counts_as_none(journal: Journal, text: str) -> None:
    keep_lineage(journal, THEN)
    (journal.folder / KEPT / TAGS_FILE).write_text(text, encoding="utf-8")
    assert read_kept(journal) is None
