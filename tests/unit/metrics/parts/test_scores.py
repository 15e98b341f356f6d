"""Every metric, by numbers worked out by hand; `test_confusion` compares them with torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segpipe.choices import EVIDENCE, METRICS
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.scores import CHIEF, list_evidence, list_labels, list_metrics, score


def of(*confusions: list[list[int]]) -> dict[str, Any]:
    return score({"confusion": confusions_of(np.array(confusions))}, "abc"[: len(confusions[0])])


def test_two_classes_by_hand() -> None:
    scores = of([[2, 1], [0, 1]])
    assert scores["iou"] == pytest.approx({"a": 2 / 3, "b": 1 / 2})  # 2 of 3 + 2 - 2 px, 1 of 1 + 2 - 1 px
    assert scores["mean_iou"] == pytest.approx(7 / 12)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 4)
    assert scores["mean_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["frequency_weighted_iou"] == pytest.approx((3 * 2 / 3 + 1 * 1 / 2) / 4)


def test_three_classes_by_hand() -> None:
    scores = of([[5, 1, 0], [2, 6, 2], [0, 0, 4]])
    # truth 6, 10, 4; predicted 7, 7, 6; union 6 + 7 - 5 = 8, 10 + 7 - 6 = 11, 4 + 6 - 4 = 6
    assert scores["iou"] == pytest.approx({"a": 5 / 8, "b": 6 / 11, "c": 4 / 6})
    assert scores["pixel_accuracy"] == pytest.approx(15 / 20)
    assert scores["mean_accuracy"] == pytest.approx((5 / 6 + 6 / 10 + 1) / 3)
    assert scores["frequency_weighted_iou"] == pytest.approx((6 * 5 / 8 + 10 * 6 / 11 + 4 * 4 / 6) / 20)


def test_a_class_absent_from_truth_has_no_iou_and_is_not_in_the_mean() -> None:
    scores = of([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert scores["iou"] == {"a": 0.75, "b": 0.8, "c": None}
    assert scores["mean_iou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores["mean_accuracy"] == pytest.approx((3 / 4 + 1) / 2)


def test_a_class_that_is_only_predicted_counts_against_the_class_in_whose_place_it_stands() -> None:
    scores = of([[2, 0, 2], [0, 4, 0], [0, 0, 0]])
    assert (scores["iou"]["a"], scores["iou"]["c"]) == (pytest.approx(2 / 4), None)
    assert scores["mean_iou"] == pytest.approx((2 / 4 + 1) / 2)


def test_the_score_of_a_set_is_not_the_mean_of_its_parts() -> None:
    # Class b fills one pixel of the first part and is missed, nine of the second and found.
    first, second = [[9, 0], [1, 0]], [[1, 0], [0, 9]]
    assert of(first, second)["mean_iou"] == pytest.approx((10 / 11 + 9 / 10) / 2)
    parts = [of(first)["mean_iou"], of(second)["mean_iou"]]
    assert np.mean(parts) == pytest.approx((9 / 10 / 2 + 1) / 2)


def test_without_a_labelled_pixel_nothing_is_said() -> None:
    scores = of([[0, 0], [0, 0]])
    assert scores.pop("support") == {"a": 0, "b": 0}
    for name in ("iou", "precision", "recall", "f1"):
        assert scores.pop(name) == {"a": None, "b": None}
    assert set(scores.values()) == {None}
    assert np.isnan(mean_iou.compute(confusions_of(np.zeros((1, 2, 2), np.int64))))


def test_every_metric_is_found_by_its_file_and_names_evidence_that_is_there() -> None:
    assert list_metrics()[0] == CHIEF
    assert sorted(list_metrics()) == METRICS.names()
    assert set(list_evidence()) <= set(EVIDENCE.names())
    assert next(iter(list_labels())) == CHIEF
    assert len(set(list_labels().values())) == len(list_labels())
