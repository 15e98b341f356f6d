"""The few scores that Git holds."""

import json
from pathlib import Path

from segpipe.places import HEADLINE, RESULT_FILES
from segpipe.reports.headline import write_headline

SCORES = {
    "mean_iou": 0.123456,
    "mean_iou_low": None,
    "mean_iou_high": None,
    "pixel_accuracy": 1.0,
    "loss": 2.0,
    "iou": {"a": 0.5},
}


def test_few_numbers_are_written_and_an_unknown_interval_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_headline({"val": {**SCORES, "mean_iou_low": 0.1, "mean_iou_high": 0.2}, "test": SCORES}, path)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "val": {"mean_iou": 0.1235, "mean_iou_low": 0.1, "mean_iou_high": 0.2, "pixel_accuracy": 1.0},
        "test": {"mean_iou": 0.1235, "pixel_accuracy": 1.0},
    }


def test_nobody_takes_the_file_for_a_change_that_is_not_committed() -> None:
    assert HEADLINE.name in RESULT_FILES
