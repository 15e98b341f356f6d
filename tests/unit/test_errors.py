"""The error tree and the message of a data error."""

import pytest
from facts import missing

from segpipe import errors
from segpipe.errors import MAX_PROBLEMS_SHOWN, DataError, Problem, SegpipeError, fold_problems


def test_every_error_is_a_segpipe_error() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) > 5
    assert all(issubclass(error, SegpipeError) for error in found)


def test_one_problem_reads_as_a_sentence() -> None:
    error = DataError([Problem("mask-missing", "images/a.png", "no masks/a.png", "Add the mask")])
    assert str(error) == "1 problem in the data:\n  images/a.png: no masks/a.png. Add the mask"


@pytest.mark.parametrize("num_more", [0, 3])
def test_many_problems_are_shown_up_to_a_limit_and_counted_beyond(num_more: int) -> None:
    problems = [Problem("x", f"file{i}", f"what {i}", "fix") for i in range(MAX_PROBLEMS_SHOWN)]
    problems += [Problem("late", "file", "what", "fix")] * num_more
    lines = str(DataError(problems)).splitlines()
    assert lines[0] == f"{MAX_PROBLEMS_SHOWN + num_more} problems in the data:"
    assert lines[1 + MAX_PROBLEMS_SHOWN :] == (["  and more: 3 x late"] if num_more else [])
    assert len(DataError(problems).problems) == MAX_PROBLEMS_SHOWN + num_more


def test_equal_problems_are_one_line_with_their_number_and_a_few_names() -> None:
    binary = [
        Problem("mask-binary", f"masks/{i}.png", f"is a 0/255 mask: {i} px hold 255", "Save 1") for i in range(40)
    ]
    absent = [Problem("mask-missing", f"images/{i}.jpg", f"no masks/{i}.png", "Add it") for i in range(2)]
    other = Problem("mask-values", "masks/41.png", "holds values: 7 (9 px)", "Fix it")
    folded = fold_problems([*binary, other, *absent])
    assert [len(equal) for _, equal in folded] == [40, 1, 2]
    assert not missing(folded[0][0], "40", "masks/0.png", "masks/2.png", "...", "0/255", "first", "Save 1")
    assert folded[1][0] == str(other)
    lines = str(DataError([*binary, other], "advice")).splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("41 problems in the data:", 4, "advice")


def test_other_values_are_other_problems() -> None:
    problems = [Problem("mask-values", f"{i}.png", f"holds values: {i} (9 px)", "Fix it") for i in (3, 4)]
    assert len(fold_problems(problems)) == 2


@pytest.mark.parametrize("key", ["fix", "mend"])
def test_a_problem_of_an_older_report_is_read(key: str) -> None:
    document = {"kind": "leak-near", "where": "a, b", "what": "look alike", key: "Keep one"}
    assert Problem.from_json(document) == Problem("leak-near", "a, b", "look alike", "Keep one")
