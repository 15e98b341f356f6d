"""The page of problems: grouped by kind, the gravest first, with pictures next to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from facts import missing
from samples import Sample, write_store

from segpipe.classes import ClassTable
from segpipe.data.building.decoding import Finding
from segpipe.errors import Problem
from segpipe.faults import KINDS
from segpipe.reports.dataset import write_dataset_report
from segpipe.reports.problems import write_check_report, write_pictures

VOID = Finding(Problem("mask-void", "masks/a.png", "is <void>", "Label it"), "warn", "a")
VALUES = [
    Finding(Problem("mask-values", f"masks/{i}.png", "holds 7", "Fix it"), "fail", str(i), b"jpeg" if i else None)
    for i in range(3)
]
SKIPPED = Finding(Problem("size-mismatch", "masks/b.png", "is small", "Export it"), "skip", "b")
FINDINGS = [VOID, *VALUES, SKIPPED]


def test_problems_are_grouped_the_gravest_first(tmp_path: Path) -> None:
    groups = write_pictures(tmp_path, FINDINGS)
    assert [(group.name, group.consequence, len(group.shown)) for group in groups] == [
        ("mask-values", "stops a training", 3),
        ("size-mismatch", "left out", 1),
        ("mask-void", "warning", 1),
    ]
    assert [one.file for one in groups[0].shown] == [
        "pictures/mask-values_1.jpg",
        "pictures/mask-values_2.jpg",
        None,
    ]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["mask-values_1.jpg", "mask-values_2.jpg"]


def test_the_page_of_a_check_names_every_problem_once_and_shows_the_pictures(tmp_path: Path) -> None:
    write_check_report(tmp_path, "labels.zip", FINDINGS, num_samples=9, num_used=5)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for finding in FINDINGS:
        assert page.count(f"<b>{finding.problem.where}</b>") == 1
        assert KINDS[finding.problem.kind].meaning.replace("'", "&#39;") in page
    assert "is &lt;void&gt;" in page
    assert page.count('<img src="data:image/jpeg;base64,anBlZw==" ') == 2  # "jpeg" in base64
    assert re.findall(r'href="(pictures[^"]+)"', page) == ["pictures/mask-values_1.jpg", "pictures/mask-values_2.jpg"]
    assert "5 of 9 samples" in page
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [problem["where"] for problem in report["fail"]] == ["masks/0.png", "masks/1.png", "masks/2.png"]
    assert [len(report[action]) for action in ("fail", "skip", "warn")] == [3, 1, 1]
    assert (report["num_samples"], report["num_used"]) == (9, 5)


def test_the_page_of_a_sound_source_says_so(tmp_path: Path) -> None:
    write_check_report(tmp_path, "labels.zip", [], num_samples=9, num_used=9)
    assert "No problems" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "pictures").exists()


def test_the_report_of_a_data_set_holds_warnings_and_what_was_left_out(tmp_path: Path) -> None:
    classes = ClassTable(("road", "car", "sky"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    image = np.zeros((2, 3, 3), np.uint8)
    samples = [
        Sample("a", "g", "train", image, np.array([[0, 0, 0], [1, 255, 255]], np.uint8)),
        Sample("c", "h", "val", image, np.array([[0, 0, 0], [0, 1, 255]], np.uint8)),
    ]
    store = write_store(tmp_path, classes, samples)
    write_dataset_report(tmp_path, store.manifest, classes, "digest", "ours", [VOID, SKIPPED], num_skipped=1)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [Problem(**problem).kind for problem in report["warnings"]] == ["mask-void", "size-mismatch"]
    assert report["num_skipped"] == 1
    assert report["splits"][0] == {
        "split": "train",
        "num_samples": 1,
        "groups": ["g"],
        "shares": {"road": 0.75, "car": 0.25, "sky": 0.0},
    }
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not missing(page, "1 sample", "left", "masks/b.png")
    words = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert not missing(words, "train 1 33.3% g", "val 1 16.7% h", "× 2 2")  # noqa: RUF001 (the sign of sizes)
    assert not missing(words, "road 75.0% 1 80.0% 1", "car 25.0% 1 20.0% 1", "sky 0.0% 0 0.0% 0")
    assert page.count('class="viewer"') == 2
    assert not missing(page, "road in c;", "car in a;"), "the image that has most of it"


@pytest.fixture
def wide() -> Finding:
    """Whose texts are wider than a phone, with a picture."""
    content = cv2.imencode(".jpg", np.zeros((480, 480, 3), np.uint8))[1].tobytes()
    return Finding(Problem("mask-values", "masks/" + "x" * 200, "holds 7 " * 50, "Fix it"), "skip", "a", content)


def test_the_page_of_a_check_in_a_browser(tmp_path: Path, wide: Finding, look_at: Callable[[Path], None]) -> None:
    write_check_report(tmp_path, "labels.zip", [VOID, wide], num_samples=9, num_used=5)
    look_at(tmp_path / "report.html")


def test_the_report_of_a_data_set_in_a_browser(
    tmp_path: Path, classes: ClassTable, wide: Finding, look_at: Callable[[Path], None]
) -> None:
    image, mask = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    samples = [Sample(f"{split}_{'x' * 80}", "group" * 20, split, image, mask) for split in ("train", "val", "test")]
    store = write_store(tmp_path, classes, samples)
    write_dataset_report(tmp_path, store.manifest, classes, "d" * 32, "ours", [wide], num_skipped=1)
    look_at(tmp_path / "report.html")
