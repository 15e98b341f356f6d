"""`segpipe data formats` and `segpipe data sources`: the list, one format with its options, and what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from facts import missing

from segpipe.choices import READERS
from segpipe.cli import main


def test_the_list_has_each_format_and_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "formats"]) == 0
    told = capsys.readouterr().out
    assert not missing(told, *READERS.names(), "LabelMe's JSON files")


@pytest.mark.parametrize("name", READERS.names())
def test_one_format_shows_its_layout_and_describes_each_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "formats", name]) == 0
    told = capsys.readouterr().out
    options = READERS.function_of(name).__kwdefaults__ or {}
    # Each option with its default, and its entry in the docstring.
    assert not missing(told, *(f"{key}: {json.dumps(value)}" for key, value in options.items()))
    assert not missing(told, *(f"\n    {key}: " for key in options))
    assert ("options     none" in told) == (not options)


def test_json_has_name_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "formats", "oxford_pet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == {"border": "void", "breeds": False}


def test_an_unknown_format_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "formats", "folders"]) == 1
    assert not missing(capsys.readouterr().err, "'folders'", "'folder'")


def test_public_sets_have_their_format_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "sources"]) == 0
    assert not missing(capsys.readouterr().out, "public:NAME", "voc2012_sbd", "CC BY-NC 4.0")


def test_the_document_has_a_section_of_each_format() -> None:
    text = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    named = {name for title in titles for name in re.findall(r"\w+", title.partition(":")[0])}
    assert named >= {*READERS.names()}
