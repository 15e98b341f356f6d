"""docs/adding-a-choice.md: each file that it shows is a choice once it lies in its folder, and its test passes."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from unit.data.readers import layouts

from segpipe.choices import LOSSES, METRICS, READERS
from segpipe.classes import IGNORE_INDEX
from segpipe.data.sources.source import Source
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.scores import list_labels, score

DOCUMENT = (Path(__file__).parents[2] / "docs/adding-a-choice.md").read_text(encoding="utf-8")
FILES = dict(
    re.findall(
        r"^`((?:src|tests)/[\w/]+\.py)`(?:(?!\n\n).)*:\n\n```python\n(.*?)```", DOCUMENT, re.DOTALL | re.MULTILINE
    )
)
LAYOUT = re.findall(r"```python\n(def write_pairs.*?)```", DOCUMENT, re.DOTALL)[0]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a file of the document into a folder that belongs to its package for the time of a test."""

    def put(place: str) -> None:
        package = importlib.import_module(".".join(Path(place).parent.parts[1:]))
        (tmp_path / Path(place).name).write_text(FILES[place], encoding="utf-8")
        spec = package.__spec__
        assert spec is not None and spec.submodule_search_locations is not None
        paths = [*spec.submodule_search_locations, str(tmp_path)]
        monkeypatch.setattr(spec, "submodule_search_locations", paths)
        monkeypatch.setattr(package, "__path__", paths)
        name = f"{package.__name__}.{Path(place).stem}"
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    return put


def run_shown_test(place: str) -> None:
    """Runs the test functions of a file of the document."""
    module = ModuleType("shown")
    exec(compile(FILES[place], place, "exec"), module.__dict__)
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_the_loss_can_be_built_by_its_name(add: Callable[[str], None]) -> None:
    add("src/segpipe/losses/brier.py")
    loss = LOSSES.call("brier", class_weights=torch.ones(2))
    void = torch.full((1, 1, 1), IGNORE_INDEX)
    assert (loss.weigh(void) == 0).all()
    assert float(loss(torch.zeros(1, 2, 1, 1), void).mean()) == 0
    run_shown_test("tests/unit/losses/test_brier.py")


def test_the_metric_is_computed_and_named(add: Callable[[str], None]) -> None:
    add("src/segpipe/metrics/worst_iou.py")
    assert "worst_iou" in METRICS.names()
    assert list_labels()["worst_iou"] == "worst IoU"
    scores = score({"confusion": confusions_of(np.array([[[2, 1], [0, 1]]]))}, ["a", "b"])
    assert scores["worst_iou"] == pytest.approx(1 / 2)
    run_shown_test("tests/unit/metrics/test_worst_iou.py")


def test_the_format_reads_its_layout(add: Callable[[str], None], tmp_path: Path) -> None:
    add("src/segpipe/data/readers/pairs.py")
    shown: dict[str, Any] = dict(vars(layouts))
    exec(LAYOUT, shown)
    root = tmp_path / "source"
    shown["write_pairs"](root)
    source: Source = READERS.call("pairs", {"licence": "CC0"}, root=root)
    assert source.classes.names == ("road", "car")
    assert [sample.sample_id for sample in source.samples] == ["a", "b"]
    assert (source.problems, source.licence) == ((), "CC0")
    pixels = source.samples[0].label.read((layouts.HEIGHT, layouts.WIDTH)).pixels
    assert pixels is not None and set(np.unique(pixels)) == {0, 1, 255}
    (root / "b.mask.png").unlink()
    (problem,) = READERS.call("pairs", {}, root=root).problems
    assert problem.kind == "mask-missing"
