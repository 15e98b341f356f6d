"""The report of an evaluation: what it says, in which order; that it is one file, and the same twice."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Browser
from facts import missing

from segpipe.classes import ClassTable
from segpipe.documents import BuiltModel, EvaluationDescription, ModelDescription, NamedDataset, UsedParams
from segpipe.reports.champion import BEGIN, END, DecidedReport, Difference, add_decision
from segpipe.reports.confusion import ConfusedPair, show_pair
from segpipe.reports.drawing.curves import Reliability, draw_curves
from segpipe.reports.evaluation import (
    DatasetSummary,
    Drawings,
    SliceScore,
    SplitScores,
    write_evaluation_report,
)
from segpipe.reports.figures import MINUS
from segpipe.reports.samples import show_prediction

CONFUSION = np.array([[60, 20, 0], [10, 30, 0], [0, 0, 0]])  # the third class is nowhere
SCORES: dict[str, Any] = {
    "mean_iou": 0.5833,
    "mean_iou_low": 0.5,
    "mean_iou_high": 0.65,
    "pixel_accuracy": 0.75,
    "frequency_weighted_iou": 0.6,
    "mean_accuracy": 0.75,
    "iou": {"road": 60 / 90, "car": 0.5, "sky": None},
    "f1": {"road": 0.8, "car": 60 / 90, "sky": None},
    "precision": {"road": 60 / 70, "car": 0.6, "sky": None},
    "recall": {"road": 0.75, "car": 0.75, "sky": None},
    "support": {"road": 80, "car": 40, "sky": 0},
    "loss": 0.43219,
}
FULL = "a #1.png"
PROBLEM = {"kind": "mask-void", "where": "masks/<a>.png", "what": "is void", "fix": "Label it"}


@pytest.fixture
def model(classes: ClassTable) -> ModelDescription:
    return ModelDescription(
        signature="s" * 64,
        experiment="day",
        model=BuiltModel("unet", {}),
        classes=classes,
        dataset=NamedDataset("streets", "d" * 32),
        params=UsedParams({"epochs": 62}, {"scheme": "none"}),
        environment={"torch": "2.14.1"},
        code="c" * 64,
        best_epoch=3,
        weights_sha256="f" * 64,
    )


@pytest.fixture
def drawings(tmp_path: Path, classes: ClassTable) -> Drawings:
    history = tmp_path / "history"
    history.mkdir()
    for split in ("train", "val"):
        (history / f"{split}.csv").write_text("epoch,loss,mean_iou\n1,2.5,0.1\n3,1.0,0.4\n", encoding="utf-8")
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    truth, prediction = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8)
    prediction[:, 16:] = 1
    sure = np.full((24, 32), 200, np.uint8)
    pair = ConfusedPair(0, 1, 20, 0.25)
    return Drawings(
        draw_curves(history, best_epoch=3),
        [
            show_prediction(
                image, truth, prediction, sure, classes, title=title, caption=f"val, {title}", full="a #1.png"
            )
            for title in ("worst", "best")
        ],
        [show_pair(pair, image, truth, prediction, "street_1")],
    )


def _write(folder: Path, model: ModelDescription, drawings: Drawings, *splits: SplitScores, **more: Any) -> str:
    evaluation = EvaluationDescription(weights_sha256="f" * 64, class_table="t" * 16, evaluation_digest="e" * 32)
    dataset = DatasetSummary("ours", [("train", 7), ("val", 2)], [PROBLEM], num_skipped=1)
    write_evaluation_report(folder, model, evaluation, splits or (_split("val"),), dataset, drawings, **more)
    return (folder / "report.html").read_text(encoding="utf-8")


def _split(name: str, **more: Any) -> SplitScores:
    return SplitScores(name, 2, SCORES, CONFUSION, **more)


def _words(page: str) -> str:
    """The page's body as a reader sees it: no tags, one space between words."""
    body = re.sub("<(script|svg).*?</(script|svg)>", "", page.partition("<body>")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_split_and_a_slice_of_nothing_but_void(tmp_path: Path, model: ModelDescription, drawings: Drawings) -> None:
    nothing = {name: dict.fromkeys(value) if isinstance(value, dict) else None for name, value in SCORES.items()}
    scores = {**nothing, "support": dict.fromkeys(SCORES["support"], 0), "loss": 0.0}
    void = SplitScores("test", 2, scores, 0 * CONFUSION, slices=[SliceScore("group", "night", 2, None)])
    words = _words(_write(tmp_path, model, drawings, _split("val"), void))
    assert "mIoU, test none" in words
    assert "group: night 2 not labelled" in words


def test_it_answers_in_order(tmp_path: Path, model: ModelDescription, drawings: Drawings) -> None:
    page = _write(tmp_path, model, drawings)
    sections = re.findall(r"<h[23][^>]*>([^<]+)</h", page)
    assert [section.partition(",")[0] for section in sections] == [
        *("Is it better?", "Where is it good", "Classes", "Confusion"),
        *("Why?", "Training", "Images: the worst", "Most confused pairs", "Problems of the data"),
        "On what was it measured?",
    ]
    links = re.findall(r'<a href="#([^"]+)"', page)
    assert len(links) == 4
    assert set(links) <= set(re.findall(r'id="([^"]+)"', page))


def test_the_figures(tmp_path: Path, model: ModelDescription, drawings: Drawings) -> None:
    words = _words(_write(tmp_path, model, drawings))
    for text in (
        "mIoU, val 58.3% 95% interval 50.0% to 65.0% , 2 images",
        "pixel accuracy 75.0%",
        "loss 0.432",
        "Lowest IoU, val: car 50.0%, road 66.7%.",
        "road 66.7% 80.0% 85.7% 75.0% 80",  # IoU, F1, precision, recall, support
        "car 50.0% 66.7% 60.0% 75.0% 40",
        "sky not labelled none none none 0",
        "road predicted as car: 25.0% of its pixels (20 px)",
        "most of them: street_1",
        "1 sample was left out",
        "masks/<a>.png : is void. Label it. mask-void",
        f"digest of the data {'d' * 32} digest of the evaluation {'e' * 32}",
        "train.epochs 62",
        "torch 2.14.1",
    ):
        assert text in words
    assert not re.search(r"\d\.\d{4}", words), "no four decimals"


def test_a_split_without_an_interval_says_so(tmp_path: Path, model: ModelDescription, drawings: Drawings) -> None:
    alone = SplitScores("val", 1, {**SCORES, "mean_iou_low": None, "mean_iou_high": None}, CONFUSION)
    assert "no interval" in _words(_write(tmp_path, model, drawings, alone))


def test_the_confusion_of_both_splits_in_both_directions(
    tmp_path: Path, model: ModelDescription, drawings: Drawings
) -> None:
    page = _write(tmp_path, model, drawings, _split("val"), _split("test"))
    panels = re.findall(r'<div class="panel panel-(\d)">', page)
    choices = re.findall(r'name="confusion" class="choice-(\d)"', page)
    assert panels == choices == ["1", "2", "3", "4"]
    assert not missing(page, "val, by truth", "val, by prediction", "test, by truth", "test, by prediction")
    by_truth, by_prediction = page.split('class="panel ')[1:3]
    assert [re.findall(r"<td [^>]*>(\d+)</td>", one)[:4] for one in (by_truth, by_prediction)] == [
        ["75", "25", "0", "25"],  # 60 and 20 of 80, 0; 10 of 40
        ["86", "40", "0", "14"],  # 60 of 70, 20 of 50, 0; 10 of 70
    ]


def test_the_decision_in_a_copy(
    tmp_path: Path, model: ModelDescription, drawings: Drawings, look_at: Callable[[Path], None]
) -> None:
    page = _write(tmp_path, model, drawings)
    assert "decision/report.html" in page
    classes = {"road": Difference(-0.033, -0.05, -0.01), "car": Difference(0.1)}
    decided = DecidedReport("not promoted", ["<b>."], "7", 0.6, Difference(-0.0167, -0.04, 0.01), classes, 0.2)
    copy = add_decision(page, decided, "../evaluation/")
    words = _words(copy)
    assert not missing(words, "decision not promoted", "<b>.", "champion, version 7, val 60.0%", "20.0%")
    assert not missing(words, f"{MINUS}1.7 points ( {MINUS}4.0 to +1.0 )")
    assert not missing(words, f"road {MINUS}3.3 {MINUS}5.0 to {MINUS}1.0", "car +10.0 none")
    moved = page.replace('<a href="a%20%231.png"', '<a href="../evaluation/a%20%231.png"')
    assert copy.partition("</section>")[2] == moved.partition("</section>")[2], "the rest stays"
    (tmp_path / "copy.html").write_text(copy, encoding="utf-8")
    look_at(tmp_path / "copy.html")


def test_the_first_version_has_no_champion_before() -> None:
    page = add_decision(f"<p>{BEGIN}not yet{END}</p>", DecidedReport("promoted", ["It is the first."]))
    assert not missing(page, "none before", "It is the first.")
    assert "not yet" not in page


def test_a_report_without_a_place_for_a_decision_stays_as_it_was() -> None:
    assert add_decision("<p>old</p>", DecidedReport("promoted", [])) == "<p>old</p>"


def test_sections_of_what_was_measured_besides(tmp_path: Path, model: ModelDescription, drawings: Drawings) -> None:
    split = _split(
        "val",
        class_intervals={"road": (0.6, 0.7)},
        slices=[SliceScore("weather", "rain", 1, 0.4, 0.3, 0.5), SliceScore("weather", "sun", 1, 0.8)],
        reliability=Reliability((0.5, 0.9), (0.4, 0.8), 0.12),
    )
    page = _write(tmp_path, model, drawings, split)
    words = _words(page)
    assert not missing(words, "weather: rain 1 40.0% 30.0% to 50.0%", "weather: sun 1 80.0% none")
    assert not missing(words, "road 66.7% 60.0% to 70.0% 80.0%", "car 50.0% none 66.7%")
    assert not missing(words, "calibration error, val: 12.0%")
    assert page.count('<svg class="chart"') == 3


def test_it_is_one_file_and_the_same_twice(tmp_path: Path, model: ModelDescription, drawings: Drawings) -> None:
    page = _write(tmp_path, model, drawings)
    assert _write(tmp_path, model, drawings) == page
    sources = re.findall(r' (?:src|href)="([^"]*)"', page)
    assert {source for source in sources if not source.startswith(("#", "data:"))} == {"a%20%231.png"}, "on demand"
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r"\b20[2-9]\d-\d\d-\d\d\b", page), "no date"


def test_the_page_in_a_browser(
    tmp_path: Path, model: ModelDescription, drawings: Drawings, look_at: Callable[[Path], None]
) -> None:
    slices = [SliceScore("weather", "x" * 90, 1, 0.4, 0.3, 0.5)]
    measured = _split("val", class_intervals={"road": (0.6, 0.7)}, slices=slices)
    long = replace(model, params=UsedParams({"x" * 200: "y" * 300}, {}), environment={"x" * 90: "y" * 300})
    _write(tmp_path, long, drawings, measured, _split("test"))
    look_at(tmp_path / "report.html")


def test_many_classes_in_a_browser(tmp_path: Path, model: ModelDescription, look_at: Callable[[Path], None]) -> None:
    names = tuple(f"a class with a long name, number {i}" for i in range(60))
    many = replace(model, classes=ClassTable(names, ((1, 2, 3),) * 60))
    scores = {name: dict.fromkeys(names, 0.5) for name in ("iou", "f1", "precision", "recall", "support")}
    split = SplitScores("val", 2, {**SCORES, **scores}, np.eye(60, dtype=np.int64))
    page = _write(tmp_path, many, Drawings(), split)
    assert page.count("evaluate.num_overlays is 0") == 2
    assert len(page) < 200_000
    look_at(tmp_path / "report.html")


def test_the_slider_and_the_layers_work_by_keys(
    tmp_path: Path, model: ModelDescription, drawings: Drawings, browser: Browser
) -> None:
    _write(tmp_path, model, drawings)
    browser.open(tmp_path / "report.html", 390)
    layers = "[...document.querySelector('.viewer').querySelectorAll('.layer')]"
    visible = f"{layers}.map(one => getComputedStyle(one).visibility)"
    cut = "getComputedStyle(document.querySelector('.viewer')).getPropertyValue('--cut')"
    assert browser.evaluate(visible) == ["visible", "hidden", "hidden", "hidden"]
    browser.evaluate("document.querySelector('.viewer input[type=range]').focus()")
    browser.press("ArrowRight")
    assert browser.evaluate(cut) == "51%"
    browser.press("Tab")
    browser.press("ArrowRight")
    assert browser.evaluate(visible) == ["hidden", "visible", "hidden", "hidden"]
    assert browser.messages == []


def test_foreign_script_does_not_run(tmp_path: Path, model: ModelDescription, browser: Browser) -> None:
    page = _write(tmp_path, model, Drawings())
    spoiled = page.replace("</main>", "<script>document.title = 'foreign'</script></main>")
    (tmp_path / "spoiled.html").write_text(spoiled, encoding="utf-8")
    browser.open(tmp_path / "spoiled.html", 800)
    assert browser.evaluate("document.title") == "Evaluation of unet"
    assert any("Content Security Policy" in message for message in browser.messages)


def test_a_split_takes_its_intervals_slices_and_reliability_from_the_tables() -> None:
    nan = float("nan")
    classes = {"class": ["road", "sky"] * 2, "low": [0.1, nan, 0.3, nan], "high": [0.2, nan, 0.4, nan]}
    slices = {
        "attribute": ["weather", "time", "weather", "time"],
        "value": ["rain", "", "sun", ""],
        "num_images": [1, 0, 2, 0],
        "mean_iou": [0.5, nan, nan, nan],
        "low": [nan] * 4,
        "high": [nan] * 4,
        "left_out": ["", "each image its own"] * 2,
    }
    bins = {"num_px": [0, 5, 0, 7], "confidence": [nan, 0.9, nan, 0.8], "accuracy": [nan, 0.7, nan, 0.6]}
    splits = ["val", "val", "test", "test"]
    named = {"classes": classes, "slices": slices, "reliability": bins}
    tables = {name: pd.DataFrame({"split": splits, **columns}) for name, columns in named.items()}
    scores = {**SCORES, "expected_calibration_error": 0.2}
    split = SplitScores.of_tables("test", 3, scores, CONFUSION, tables)
    assert split.class_intervals == {"road": (0.3, 0.4), "sky": (None, None)}
    assert split.slices == [SliceScore("weather", "sun", 2, None)]
    assert split.reliability == Reliability([0.8], [0.6], 0.2)
    unmeasured = {**SCORES, "expected_calibration_error": None}
    assert SplitScores.of_tables("val", 3, unmeasured, CONFUSION, tables).reliability is None
