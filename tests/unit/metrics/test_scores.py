"""Scores, by numbers worked out by hand; `test_confusion` compares them with torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segpipe.metrics.scores import scores_of


def test_two_classes_by_hand() -> None:
    scores = scores_of(np.array([[2, 1], [0, 1]]))
    assert scores.iou == pytest.approx((2 / 3, 1 / 2))  # 2 of 3 + 2 - 2 px, 1 of 1 + 2 - 1 px
    assert scores.mean_iou == pytest.approx(7 / 12)
    assert scores.pixel_accuracy == pytest.approx(3 / 4)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert scores.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 1 * 1 / 2) / 4)


def test_three_classes_by_hand() -> None:
    scores = scores_of(np.array([[5, 1, 0], [2, 6, 2], [0, 0, 4]]))
    # truth 6, 10, 4; predicted 7, 7, 6; union 6 + 7 - 5 = 8, 10 + 7 - 6 = 11, 4 + 6 - 4 = 6
    assert scores.iou == pytest.approx((5 / 8, 6 / 11, 4 / 6))
    assert scores.pixel_accuracy == pytest.approx(15 / 20)
    assert scores.mean_accuracy == pytest.approx((5 / 6 + 6 / 10 + 1) / 3)
    assert scores.frequency_weighted_iou == pytest.approx((6 * 5 / 8 + 10 * 6 / 11 + 4 * 4 / 6) / 20)


def test_a_class_absent_from_truth_is_nan_and_not_in_the_mean() -> None:
    scores = scores_of(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert scores.iou[:2] == pytest.approx((3 / 4, 4 / 5))
    assert math.isnan(scores.iou[2])
    assert scores.mean_iou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)
    assert scores.to_json(["a", "b", "c"])["iou"] == {"a": 0.75, "b": 0.8, "c": None}


def test_a_class_that_is_only_predicted_counts_against_the_class_in_whose_place_it_stands() -> None:
    scores = scores_of(np.array([[2, 0, 2], [0, 4, 0], [0, 0, 0]]))
    assert scores.iou[0] == pytest.approx(2 / 4)
    assert math.isnan(scores.iou[2])
    assert scores.mean_iou == pytest.approx((2 / 4 + 1) / 2)


def test_the_score_of_a_set_is_not_the_mean_of_its_parts() -> None:
    # Class 1 fills one pixel of the first part and is missed, nine of the second and found.
    first, second = np.array([[9, 0], [1, 0]]), np.array([[1, 0], [0, 9]])
    whole = scores_of(first + second).mean_iou
    assert whole == pytest.approx((10 / 11 + 9 / 10) / 2)
    assert np.mean([scores_of(first).mean_iou, scores_of(second).mean_iou]) == pytest.approx((9 / 10 / 2 + 1) / 2)
