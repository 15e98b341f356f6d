"""The page that compares two versions: what its lead says, what is marked, what is escaped."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facts import missing
from PIL import Image

from segpipe.reports.comparison import write_comparison_page
from segpipe.reports.documents.comparison import VersionComparison
from segpipe.reports.figures import MINUS


def _version(version: str, **changes: Any) -> dict[str, Any]:
    figures = {
        "mean_iou": 0.5,
        "low": 0.4,
        "high": 0.6,
        "size_mb": 5.25,
        "latency_ms": 31.26,
        "latency_low_ms": 28.0,
        "latency_high_ms": 40.25,
        "num_parameters": 1310923,
    }
    names = {"commit": "c" * 40, "model": "compact_fpn", "run_id": "r" * 32, "created": "2026-03-04 12:31"}
    registered = {"decision": "promoted", "is_dirty": False, "weights_sha256": "f" * 64, "evaluation_digest": "e" * 64}
    return {"version": version, "is_champion": False, **figures, **names, **registered, **changes}


def _class(name: str, difference: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    first, second = (None, None) if difference is None else (0.5, 0.5 + difference)
    interval = {"low": low, "high": high}
    return {"name": name, "color": [128, 64, 1], "first": first, "second": second, "difference": difference, **interval}


def _mean(difference: float, low: float | None, high: float | None, probability: float = 0.75) -> dict[str, Any]:
    scores = {"first": 0.5, "second": 0.5 + difference, "difference": difference}
    return {**scores, "low": low, "high": high, "probability": probability}


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "model_name": "streets",
        "versions": [_version("3", is_champion=True), _version("7")],
        "set": {"evaluation_digest": "e" * 64, "num_images": 64, "kind": "group", "num_units": 8},
        "notes": [],
        "mean_iou": _mean(0.03, 0.01, 0.05, 0.9912),
        "classes": [_class("road", 0.04, 0.01, 0.07), _class("car", -0.1, -0.15, -0.05), _class("sky", 0.0, -0.1, 0.1)],
        "data": [],
        "params": [],
        "environment": [],
        "pictures": [],
    }


def _write(folder: Path, document: dict[str, Any]) -> str:
    typed = VersionComparison.parse(json.dumps(document), "document", "correct the test")
    path = write_comparison_page(folder, typed)
    assert path == folder / "index.html"
    return path.read_text(encoding="utf-8")


def _words(page: str) -> str:
    """The page's body as a reader sees it: no tags, one space between words."""
    body = re.sub("<script>.*</script>", "", page.partition("<body>")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def _row(page: str, name: str) -> str:
    """The row of a class as a reader sees it."""
    return next(
        words
        for row in re.findall("<tr>(.*?)</tr>", page, re.DOTALL)
        if (words := _words("<body>" + row)).startswith(name)
    )


def test_better_beyond_chance(tmp_path: Path, document: dict[str, Any]) -> None:
    words = _words(_write(tmp_path, document))
    assert not missing(words, "Version 7 is better than version 3", "53.0%", "50.0%", "+3.0", "+1.0 to +5.0", "99.1%")


@pytest.mark.parametrize(
    ("mean_iou", "start"),
    [
        (_mean(-0.03, -0.05, -0.01), "Version 7 is worse than version 3, beyond chance: mIoU 47.0% against 50.0%"),
        (_mean(0.03, -0.01, 0.07), "Version 7 scores higher than version 3, but that may be chance: mIoU 53.0%"),
        (_mean(-0.03, -0.07, 0.01), "Version 7 scores lower than version 3, but that may be chance: mIoU 47.0%"),
        (_mean(0.03, 0.0, 0.06), "Version 7 scores higher than version 3, but that may be chance"),  # zero is held
        (_mean(0.03, None, None), "Version 7 scores higher than version 3: mIoU 53.0% against 50.0%"),
        (_mean(0.0, 0.0, 0.0), "Version 3 and version 7 have the same mIoU to 0.01 points, 50.0%."),
        (_mean(0.00001, 0.0, 0.1), "Version 3 and version 7 have the same mIoU to 0.01 points, 50.0%."),
    ],
)
def test_the_lead_says_no_more_than_the_interval(
    tmp_path: Path, document: dict[str, Any], mean_iou: dict[str, Any], start: str
) -> None:
    document["mean_iou"] = mean_iou
    assert f"version 7 {start}" in _words(_write(tmp_path, document))


def test_without_an_interval_chance_is_left_open(tmp_path: Path, document: dict[str, Any]) -> None:
    document["mean_iou"] = _mean(0.03, None, None)
    words = _words(_write(tmp_path, document))
    assert "There is no interval" in words
    assert "probability" not in words


@pytest.mark.parametrize(
    ("probability", "said"), [(1.0, "over 99.9%"), (0.9991, "over 99.9%"), (0.5, "50.0%"), (0.0, "under 0.1%")]
)
def test_a_probability_is_never_certain(
    tmp_path: Path, document: dict[str, Any], probability: float, said: str
) -> None:
    document["mean_iou"]["probability"] = probability
    assert f"The probability that version 7 is better is {said}." in _words(_write(tmp_path, document))


def test_images_without_a_label_give_no_verdict(tmp_path: Path, document: dict[str, Any]) -> None:
    document["mean_iou"] = dict.fromkeys(document["mean_iou"])
    words = _words(_write(tmp_path, document))
    assert "Version 3 and version 7 cannot be compared" in words
    assert "chance" not in words.partition("IoU on the same images")[0]


def test_classes_whose_interval_excludes_zero_are_marked(tmp_path: Path, document: dict[str, Any]) -> None:
    document["classes"].append(_class("pole", 0.1, None, None))
    page = _write(tmp_path, document)
    assert _row(page, "road") == "road 50.0% 54.0% +4.0 +1.0 to +7.0 ▲ better"
    assert _row(page, "car") == f"car 50.0% 40.0% {MINUS}10.0 {MINUS}15.0 to {MINUS}5.0 ▼ worse"
    assert _row(page, "sky") == f"sky 50.0% 50.0% +0.00 {MINUS}10.0 to +10.0"
    assert _row(page, "pole").startswith("pole 50.0% 60.0% +10.0 none")
    order = [page.index(f"</span>{name}</span>") for name in ("road", "car", "sky", "pole")]
    assert order == sorted(order)


def test_a_whisker_stands_where_its_numbers_say(tmp_path: Path, document: dict[str, Any]) -> None:
    # The widest interval ends at -0.15: the axis goes from -0.2 at 0 px to +0.2 at 200 px, so 0.01 is 5 px.
    page = _write(tmp_path, document)
    assert '<text x="200" y="12" text-anchor="end">+20</text>' in page
    assert '<circle class="value worse" cx="50.0" cy="8" r="3.5"/>' in page
    assert 'd="M25.0 4v8M25.0 8H75.0M75.0 4v8"' in page
    assert page.count('<line class="zero" x1="100.0" x2="100.0"') == 4


def test_a_class_that_nobody_labelled(tmp_path: Path, document: dict[str, Any]) -> None:
    document["classes"] = [_class("sign", None, None, None)]
    page = _write(tmp_path, document)
    assert _row(page, "sign") == "sign not labelled not labelled none none"
    assert page.count("<circle") == 1  # of the mean alone


def test_the_versions_side_by_side(tmp_path: Path, document: dict[str, Any]) -> None:
    absent = dict.fromkeys(
        ("mean_iou", "low", "high", "latency_ms", "latency_low_ms", "latency_high_ms", "num_parameters", "commit")
    )
    document["versions"][1] |= absent
    page = _write(tmp_path, document)
    assert "<h1>streets: version 3 and version 7</h1>" in page
    words = _words(page)
    for row in (
        "alias champion mIoU as registered 50.0% not recorded its 95% interval 40.0% to 60.0% not recorded",
        "parameters 1,310,923 not recorded size, MB 5.25 5.25",
        "latency, ms an image: median (80% of the calls) 31.3 (28.0 to 40.2) not measured",
        f"commit {'c' * 12} not recorded run {'r' * 12} {'r' * 12}",
    ):
        assert row in words


@pytest.mark.parametrize(
    ("kind", "num_units", "said"),
    [
        ("group", 4, "only 4 groups:"),
        ("block", 1, "only 1 block of consecutive images:"),
        ("block", 5, None),
    ],
)
def test_few_units_are_said(
    tmp_path: Path, document: dict[str, Any], kind: str, num_units: int, said: str | None
) -> None:
    document["set"] |= {"kind": kind, "num_units": num_units}
    words = _words(_write(tmp_path, document))
    assert ("Little evidence." in words) is (said is not None)
    assert (said or "64 images in 5 blocks of consecutive images") in words


def test_what_differs(tmp_path: Path, document: dict[str, Any]) -> None:
    assert _words(_write(tmp_path, document)).count("Nothing differs.") == 4
    document["notes"] = ["Version 3 was evaluated again."]
    document["data"] = [{"name": "data", "first": "aaa.dir", "second": "bbb.dir"}]
    document["params"] = [{"name": "train.learning_rate", "first": "0.003", "second": None}]
    document["environment"] = [{"name": "numpy", "first": "2.4.6", "second": "2.4.7"}]
    words = _words(_write(tmp_path, document))
    for text in (
        "Version 3 was evaluated again.",
        "data aaa.dir bbb.dir",
        "train.learning_rate 0.003 none",
        "2.4.6 2.4.7",
    ):
        assert text in words


def test_a_picture_is_in_the_page_and_the_large_one_is_found_whatever_its_name(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    road, car = [128, 64, 1], [0, 0, 142]
    document["classes"][1]["color"] = car
    document["classes"][2]["color"] = [1, 2, 3]
    picture = {"file": "a #1.png", "sample_id": "a #1", "group": "a", "first": 0.25, "second": None}
    document["pictures"] = [picture]
    panels = [np.full((4, 6, 3), color, np.uint8) for color in ([9, 9, 9], road, road, car)]
    Image.fromarray(np.concatenate(panels, axis=1)).save(tmp_path / "a #1.png")
    page = _write(tmp_path, document)
    assert 'href="a%20%231.png"' in page
    assert "a #1 of group a: mIoU 25.0% and none" in _words(page)
    drawn = [
        cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR_RGB)
        for content in re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    ]
    assert [(one.shape, one[0, 0].tolist()) for one in drawn[1:]] == [((4, 6, 3), color) for color in (road, road, car)]
    legend = page[page.index('<ul class="legend"') :]
    assert not missing(legend, "road", "car")
    assert "sky" not in legend, "in none of the layers"


def test_a_picture_that_is_gone_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    picture = {"file": "1.png", "sample_id": "a_1", "group": "a", "first": 0.25, "second": None}
    assert "a_1 of group a" in _words(_write(tmp_path, document | {"pictures": [picture]}))


def test_everything_is_escaped_and_nothing_is_fetched(tmp_path: Path, document: dict[str, Any]) -> None:
    evil = "<b>&\"'<script src='https://evil.example'>"
    document["model_name"] = evil
    document["versions"] = [_version(evil, model=evil, created=evil), _version("7", commit=evil, run_id=evil)]
    document["notes"] = [evil]
    document["classes"][0] |= {"name": evil}
    document["params"] = [{"name": evil, "first": evil, "second": evil}]
    picture = {"file": 'https://evil.example/".png', "sample_id": evil, "group": evil, "first": 0.1, "second": 0.2}
    document["pictures"] = [picture]
    page = _write(tmp_path, document)
    assert page.count("<script") == 1, "ours"
    assert evil not in page
    assert _words(page).count(evil) > 10
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [
        "data:,",
        "https%3A//evil.example/%22.png",
    ]  # a relative path
    assert not re.search(r"url\(|@import", page)


def test_the_page_in_a_browser(tmp_path: Path, document: dict[str, Any], look_at: Callable[[Path], None]) -> None:
    document["classes"][0]["name"] = "a class with a name that is longer than any phone is wide, and goes on"
    document["params"] = [{"name": "train.loss", "first": "x" * 300, "second": None}]
    picture = {"file": "1.png", "sample_id": "a_1", "group": "a", "first": 0.25, "second": None}
    document["pictures"] = [picture]
    Image.fromarray(np.zeros((40, 4 * 60, 3), np.uint8)).save(tmp_path / "1.png")
    _write(tmp_path, document)
    look_at(tmp_path / "index.html")
