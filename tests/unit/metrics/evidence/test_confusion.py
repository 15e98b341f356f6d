"""Confusion matrices: by hand, by a slow count, and with their scores next to torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics.evidence import confusion
from segpipe.metrics.evidence.confusion import confusion_matrix
from segpipe.metrics.parts import histogram
from segpipe.metrics.parts.prediction import Prediction
from segpipe.metrics.parts.scores import score


def _random_pair(num_images: int = 3, num_classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, num_classes, (num_images, 16, 20)).astype(np.uint8)
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, num_classes, target.shape))
    target[rng.random(target.shape) < 0.1] = IGNORE_INDEX
    return prediction.astype(np.uint8), target


def test_two_classes_by_hand() -> None:
    # truth 0 0 0 1 void; predicted 0 0 1 1 1: rows are truth, columns prediction.
    target = np.array([[0, 0, 0, 1, 255]], np.uint8)
    counts = confusion_matrix(np.array([[0, 0, 1, 1, 1]], np.uint8), target, 2)
    assert counts.tolist() == [[2, 1], [0, 1]]
    assert counts.dtype == np.int64


def test_all_void_counts_nothing() -> None:
    assert confusion_matrix(np.zeros((3, 3), np.uint8), np.full((3, 3), 255, np.uint8), 4).tolist() == [[0] * 4] * 4


@pytest.mark.parametrize("max_px_at_once", [histogram.MAX_PX_AT_ONCE, 50])
def test_one_matrix_an_image_against_a_slow_count(max_px_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "MAX_PX_AT_ONCE", max_px_at_once)
    prediction, target = _random_pair()
    expected = np.zeros((3, 5, 5), np.int64)
    for image, y, x in np.ndindex(*target.shape):
        if target[image, y, x] != IGNORE_INDEX:
            expected[image, target[image, y, x], prediction[image, y, x]] += 1
    np.testing.assert_array_equal(confusion.collect(Prediction(prediction, 5), target).dense(), expected)


def test_255_classes_do_not_overflow() -> None:
    counts = confusion_matrix(np.full((1, 3), 254, np.uint8), np.array([[254, 253, 255]], np.uint8), 255)
    assert counts.sum() == 2
    assert counts[254, 254] == counts[253, 254] == 1


def test_more_pixels_than_float32_can_count_are_counted() -> None:
    # OpenCV's counts end at 2^24. One row more than that, all of one class; views of one row need no memory.
    num_rows = (1 << 24) // 4096 + 1
    zeros = np.broadcast_to(np.zeros(4096, np.uint8), (num_rows, 4096))
    assert confusion_matrix(zeros, zeros, 1).tolist() == [[num_rows * 4096]]


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchmetrics(seed: int) -> None:
    prediction, target = _random_pair(seed=seed)
    target[target == 4] = 0  # class 4 is only predicted
    scores = score({"confusion": confusion.collect(Prediction(prediction, 5), target)}, list("abcde"))
    found, truth = torch.from_numpy(prediction).long(), torch.from_numpy(target).long()
    by_class = MulticlassJaccardIndex(5, average=None, ignore_index=IGNORE_INDEX)(found, truth)
    np.testing.assert_allclose(list(scores["iou"].values())[:4], by_class[:4], rtol=1e-6)
    assert scores["iou"]["e"] is None
    for name, metric in {
        "mean_iou_with_predicted": MulticlassJaccardIndex(5, average="macro", ignore_index=IGNORE_INDEX),
        "frequency_weighted_iou": MulticlassJaccardIndex(5, average="weighted", ignore_index=IGNORE_INDEX),
        "pixel_accuracy": MulticlassAccuracy(5, average="micro", ignore_index=IGNORE_INDEX),
    }.items():
        assert scores[name] == pytest.approx(float(metric(found, truth)), rel=1e-6)
    assert scores["mean_iou"] == pytest.approx(scores["mean_iou_with_predicted"] * 5 / 4)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(seed: int) -> None:
    prediction, target = _random_pair(seed=seed)
    scores = score({"confusion": confusion.collect(Prediction(prediction, 5), target)}, list("abcde"))
    is_labelled = target != IGNORE_INDEX
    expected = precision_recall_fscore_support(target[is_labelled], prediction[is_labelled], labels=range(5))
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(list(scores[name].values()), values, rtol=1e-12)
    assert scores["mean_accuracy"] == pytest.approx(np.mean(expected[1]))


def test_precision_of_a_class_that_is_never_predicted_is_unknown_and_its_f1_is_zero() -> None:
    target = np.array([[[0, 0, 1]]], np.uint8)
    evidence = {"confusion": confusion.collect(Prediction(np.zeros_like(target), 2), target)}
    scores = score(evidence, ["a", "b"])
    assert (scores["precision"]["b"], scores["recall"]["b"], scores["f1"]["b"]) == (None, 0, 0)
