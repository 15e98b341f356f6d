"""Values of a parameter file are replaced in its text: the rest, comments and layout, stays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from starter import make_params

from segpipe.config.params_edit import set_values
from segpipe.errors import ConfigError

TEXT = """\
# head
a:
  name: one         # its name
  empty:            # nothing yet
  list:             # of three
  - x
  - y
  map:
    k: 1            # inside

b: {}               # flow
last: 5
"""


def _read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("a.name", "two", "  name: two         # its name"),
        ("a.name", None, "  name:             # its name"),
        ("a.empty", 3, "  empty: 3          # nothing yet"),
        ("a.empty", ["p"], "  empty:            # nothing yet\n  - p"),
        ("a.list", 0.5, "  list: 0.5         # of three"),
        ("a.list", ["z"], "  list:             # of three\n  - z"),
        ("a.map", {}, "  map: {}            # inside"),
        ("b", {"k": ["v"]}, "b:                  # flow\n  k:\n  - v"),
        ("last", "no", "last: no"),
        ("a.name", "0016E5", "  name: '0016E5'    # its name"),
        ("a.name", "a name that is longer than that", "  name: a name that is longer than that # its name"),
    ],
)
def test_one_value_changes_and_nothing_else(key: str, value: Any, line: str) -> None:
    after = set_values(TEXT, {key: value})
    assert f"{line}\n" in after
    expected = _read(TEXT)
    *sections, last = key.split(".")
    part = expected
    for name in sections:
        part = part[name]
    part[last] = value
    assert _read(after) == expected
    comments = [text[text.index("#") :] for text in TEXT.splitlines() if "#" in text]
    assert [text for text in comments if text not in after] == []


def test_a_comment_may_change_too() -> None:
    assert "  name: two         # of the second\n" in set_values(TEXT, {"a.name": "two"}, {"a.name": "of the second"})


def test_the_file_that_lacks_a_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: a\.nothing"):
        set_values(TEXT, {"a.nothing": 1})
    with pytest.raises(ConfigError, match=r"recipes/smoke\.yaml: a\.nothing"):
        set_values(TEXT, {"a.nothing": 1}, where=Path("recipes/smoke.yaml"))


@pytest.mark.parametrize(
    "entry",
    [
        "b: |    # of b\n    x\n    y # no comment",
        "b: >-   # of b\n    x\n",
        "b:      # of b\n    x",
        "b:\n    x # of b",
        "b: 'x\n\n    y' # of b",
        "b: [1,\n    2] # of b",
        "b:      # of b\n  - |\n    x",
        "b:      # of b\n    c: {}",
    ],
)
def test_a_value_of_several_lines_goes_and_what_stands_around_it_stays(entry: str) -> None:
    text = f"a: 1\ns:\n  {entry}\n\n  # about d\n  d: 2     # of d\n"
    changed = set_values(text, {"s.b": 5})
    assert changed.startswith("a: 1\ns:\n  b: 5")
    assert changed.splitlines()[2].endswith(" # of b")
    assert changed.endswith("\n  # about d\n  d: 2     # of d\n")
    assert _read(changed) == {"a": 1, "s": {"b": 5, "d": 2}}


def test_the_result_is_as_dvcs_writer_lays_it_out() -> None:
    text = make_params()
    values = {
        "download.options": {"images": "img/{id}.*", "classes": [{"name": "a", "color": [1, 2, 3]}]},
        "preprocess.group_pattern": None,
        "preprocess.split.val": 0.15,
        "preprocess.split.test": None,
        "train.model.name": "segformer",
    }
    after = set_values(text, values)
    yaml, written = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(yaml.load(after), written)
    changed = [a for a, b in zip(after.splitlines(), written.getvalue().splitlines(), strict=True) if a != b]
    yaml, before = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(yaml.load(text), before)
    known = [a for a, b in zip(text.splitlines(), before.getvalue().splitlines(), strict=True) if a != b]
    assert changed == known
