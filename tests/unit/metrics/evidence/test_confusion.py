"""Confusion matrices: by hand, by a slow count, and with their scores next to torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics.evidence.confusion import confusion_matrices
from segpipe.metrics.parts.scores import score


def _random_pair(num_images: int = 3, num_classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, num_classes, (num_images, 16, 20)).astype(np.uint8)
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, num_classes, target.shape))
    target[rng.random(target.shape) < 0.1] = IGNORE_INDEX
    return torch.from_numpy(prediction.astype(np.int64)), torch.from_numpy(target)


def test_two_classes_by_hand() -> None:
    # truth 0 0 0 1 void; predicted 0 0 1 1 1: rows are truth, columns prediction.
    target = torch.tensor([[[0, 0, 0, 1, 255]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 0, 1, 1, 1]]])
    confusion = confusion_matrices(prediction, target, 2)
    assert confusion.tolist() == [[[2, 1], [0, 1]]]
    assert confusion.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_void_pixels_do_not_count_whatever_is_predicted_there(dtype: torch.dtype) -> None:
    prediction, target = _random_pair()
    target = target.to(dtype)
    before = confusion_matrices(prediction, target, 5)
    prediction[target == IGNORE_INDEX] = 4
    assert torch.equal(confusion_matrices(prediction, target, 5), before)
    assert int(before.sum()) == int((target != IGNORE_INDEX).sum())


def test_all_void_counts_nothing() -> None:
    target = torch.full((2, 3, 3), IGNORE_INDEX, dtype=torch.uint8)
    assert confusion_matrices(torch.zeros(2, 3, 3, dtype=torch.int64), target, 4).tolist() == [[[0] * 4] * 4] * 2


def test_one_matrix_an_image_against_a_slow_count() -> None:
    prediction, target = _random_pair()
    expected = np.zeros((3, 5, 5), np.int64)
    for image, y, x in np.ndindex(*target.shape):
        truth = int(target[image, y, x])
        if truth != IGNORE_INDEX:
            expected[image, truth, int(prediction[image, y, x])] += 1
    np.testing.assert_array_equal(confusion_matrices(prediction, target, 5).numpy(), expected)


def test_255_classes_do_not_overflow() -> None:
    target = torch.tensor([[[254, 253, 255]]], dtype=torch.uint8)
    confusion = confusion_matrices(torch.tensor([[[254, 254, 254]]], dtype=torch.uint8), target, 255)
    assert confusion.sum() == 2
    assert confusion[0, 254, 254] == confusion[0, 253, 254] == 1


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchmetrics(seed: int) -> None:
    prediction, target = _random_pair(seed=seed)
    scores = score({"confusion": confusion_matrices(prediction, target, 5).numpy()}, list("abcde"))
    truth = target.long()
    by_class = MulticlassJaccardIndex(5, average=None, ignore_index=IGNORE_INDEX)(prediction, truth)
    np.testing.assert_allclose(list(scores["iou"].values()), by_class, rtol=1e-6)
    for ours, metric in [
        (scores["mean_iou"], MulticlassJaccardIndex(5, average="macro", ignore_index=IGNORE_INDEX)),
        (scores["frequency_weighted_iou"], MulticlassJaccardIndex(5, average="weighted", ignore_index=IGNORE_INDEX)),
        (scores["pixel_accuracy"], MulticlassAccuracy(5, average="micro", ignore_index=IGNORE_INDEX)),
        (scores["mean_accuracy"], MulticlassAccuracy(5, average="macro", ignore_index=IGNORE_INDEX)),
    ]:
        assert ours == pytest.approx(float(metric(prediction, truth)), rel=1e-6)
