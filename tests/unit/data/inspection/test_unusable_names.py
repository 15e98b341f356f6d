"""Names that cannot be used are all named before anything is trained; all others are left alone."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from segpipe.classes import ClassTable
from segpipe.data.inspection.unusable_names import find_unusable_names
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.source import RawSample


def table(*names: str) -> ClassTable:
    return ClassTable(names, ((0, 0, 0),) * len(names))


@pytest.mark.parametrize("name", ["road", "a//b", "road/", "./x", "..", "道路", "traffic sign", "x" * 120])
def test_a_class_may_be_called_anything_that_can_be_read(name: str) -> None:
    assert find_unusable_names(table(name, "other"), []) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        (" road", "begins or ends with a blank"),
        ("road\n", "begins or ends with a blank"),
        ("ro\x1b[31mad", "U+001B"),
        ("ro\u202ead", "U+202E"),
        ("x" * 121, "121 characters"),
    ],
)
def test_a_class_that_cannot_be_shown_is_named(name: str, what: str) -> None:
    (problem,) = find_unusable_names(table("road", name), [])
    assert problem.kind == "name-unusable"
    assert what in problem.what
    assert "\x1b" not in str(problem)


def test_two_names_that_look_the_same_are_refused() -> None:
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    (problem,) = find_unusable_names(table(composed, decomposed), [])
    assert "looks the same" in problem.what


@pytest.mark.parametrize(
    ("sample_id", "is_usable"),
    [
        ("street/a 1", True),
        ("道路_1", True),
        ("x" * 200, True),
        ("../x", False),
        ("a//b", False),
        ("/abs", False),
        ("a/./b", False),
        ("a\\b", False),
        ("a\0b", False),
        ("x" * 201, False),
    ],
)
def test_a_sample_names_a_file_below_its_folder(sample_id: str, is_usable: bool) -> None:
    file = Path("image.png")
    sample = RawSample(sample_id, file, IndexMask(file, {0: 0}))
    assert (find_unusable_names(table("road"), [sample]) == []) is is_usable
