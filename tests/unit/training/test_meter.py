"""The count of pixels on the training's device is that of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics.evidence.confusion import confusion_matrix as count_on_host
from segpipe.training.meter import confusion_matrix, mean_iou_of


@pytest.mark.parametrize("num_classes", [2, 5, 40, 255])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_it_counts_what_an_evaluation_counts(num_classes: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    prediction, target = rng.integers(0, num_classes, (2, 3, 16, 20)).astype(np.uint8)
    target[rng.random(target.shape) < 0.1] = IGNORE_INDEX
    counts = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(target).to(dtype), num_classes)
    expected = sum(count_on_host(*pair, num_classes) for pair in zip(prediction, target, strict=True))
    np.testing.assert_array_equal(counts.numpy(), expected)


def test_an_empty_matrix_scores_zero() -> None:
    assert mean_iou_of([[0, 0], [0, 0]]) == 0
    assert mean_iou_of([[2, 1], [0, 1]]) == pytest.approx(7 / 12)
