"""The error tree and the message of a data error."""

import pytest

from segpipe import errors
from segpipe.errors import MAX_PROBLEMS_SHOWN, DataError, Problem, SegpipeError


def test_every_error_is_a_segpipe_error() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) > 5
    assert all(issubclass(error, SegpipeError) for error in found)


def test_one_problem_reads_as_a_sentence() -> None:
    error = DataError([Problem("mask-missing", "images/a.png", "no masks/a.png", "Add the mask")])
    assert str(error) == "1 problem in the data:\n  images/a.png: no masks/a.png. Add the mask"


@pytest.mark.parametrize("num_more", [0, 3])
def test_many_problems_are_shown_up_to_a_limit_and_counted_beyond(num_more: int) -> None:
    problems = [Problem("x", f"file{i}", "what", "fix") for i in range(MAX_PROBLEMS_SHOWN)]
    problems += [Problem("late", "file", "what", "fix")] * num_more
    lines = str(DataError(problems)).splitlines()
    assert lines[0] == f"{MAX_PROBLEMS_SHOWN + num_more} problems in the data:"
    assert lines[1 + MAX_PROBLEMS_SHOWN :] == (["  and more: 3 x late"] if num_more else [])
    assert len(DataError(problems).problems) == MAX_PROBLEMS_SHOWN + num_more


@pytest.mark.parametrize("key", ["fix", "mend"])
def test_a_problem_of_an_older_report_is_read(key: str) -> None:
    document = {"kind": "leak-near", "where": "a, b", "what": "look alike", key: "Keep one"}
    assert Problem.from_json(document) == Problem("leak-near", "a, b", "look alike", "Keep one")
