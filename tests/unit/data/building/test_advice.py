"""Advice on the class table: from the masks, and only where the table may be the cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import missing
from own_data import draw_set

from segpipe.choices import READERS
from segpipe.data.building.advice import advise
from segpipe.data.sources.source import Source
from segpipe.errors import Problem

TABLE = "classes: [{name: ground, color: [0, 0, 0]}, {name: berry, color: [230, 25, 75]}]\n"


def _read(root: Path, table: str = TABLE) -> Source:
    (root / "dataset.yaml").write_text(table, encoding="utf-8")
    source: Source = READERS.call("folder", {}, root=root)
    return source


def _problems(kind: str) -> list[Problem]:
    return [Problem(kind, "masks/a.png", "what", "fix")]


@pytest.fixture(scope="module")
def berries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set("berries", tmp_path_factory.mktemp("own"))


def test_masks_of_0_and_255_get_their_values(berries: Path) -> None:
    told = advise(_read(berries), _problems("mask-binary-void"))
    assert not missing(told, "40 masks", "dataset.yaml", "berry", "value: 255}")


@pytest.mark.parametrize("kinds", [["image-damaged"], ["mask-values", "mask-blended"]])
def test_faults_of_another_cause_get_none(berries: Path, kinds: list[str]) -> None:
    assert advise(_read(berries), [problem for kind in kinds for problem in _problems(kind)]) == ""


def test_a_format_that_says_itself_what_masks_mean_gets_none(tmp_path: Path) -> None:
    source: Source = READERS.call("cvat", {}, root=draw_set("cvat", tmp_path))
    assert advise(source, _problems("mask-values")) == ""
