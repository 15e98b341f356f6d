"""The table of kinds: complete, consistent, and described in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segpipe.faults import KINDS, Fault, shown

DOCUMENT = Path(__file__).parents[2] / "docs/data-faults.md"


def test_the_documentation_describes_exactly_the_kinds_that_there_are() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(described) == sorted(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_can_be_kept_as_it_is_by_default(name: str) -> None:
    kind = KINDS[name]
    assert kind.action in kind.allowed
    assert "fail" in kind.allowed
    assert kind.meaning


def test_a_fixed_fault_is_of_a_fixable_kind() -> None:
    assert Fault("mask-depth", "is deep", "Save 8 bits", is_fixed=True).is_fixed
    with pytest.raises(AssertionError):
        Fault("mask-void", "is void", "Label it", is_fixed=True)
    with pytest.raises(AssertionError):
        Fault("no-such-kind", "is odd", "Fix it")


def test_of_many_values_the_first_are_shown() -> None:
    assert shown([1, 2, 3]) == "1, 2, 3"
    assert shown(range(20), 3) == "0, 1, 2, ..."
