"""Calibration: by hand, and next to torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics import expected_calibration_error
from segpipe.metrics.evidence.confidences import collect
from segpipe.metrics.parts.prediction import Prediction


def test_four_pixels_by_hand() -> None:
    # Bins of 1/15: 0.5 lies in bin 7, 0.9 twice in bin 13, 1 in bin 14; the last but one is wrong, the last is void.
    classes = np.array([[[0, 1, 1, 0, 0]]], np.uint8)
    target = np.array([[[0, 1, 0, 0, 255]]], np.uint8)
    confidence = np.array([[[0.5, 0.9, 0.9, 1, 0.1]]], np.float32)
    counts = collect(Prediction(classes, 2, confidence), target).total()
    assert counts[7].tolist() == [1, 1, 0.5]
    assert counts[13] == pytest.approx([2, 1, 1.8])
    assert counts[14].tolist() == [1, 1, 1]
    assert counts.sum(axis=0)[0] == 4
    evidence = collect(Prediction(classes, 2, confidence), target)
    assert expected_calibration_error.compute(evidence) == pytest.approx((0.5 + 0.8 + 0) / 4)


@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_torchmetrics(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(2, 5, 30, 40, generator=generator)).softmax(dim=1)
    target = torch.randint(0, 5, (2, 30, 40), generator=generator)
    target[:, :3] = IGNORE_INDEX
    confidence, classes = probabilities.max(dim=1)
    prediction = Prediction(classes.to(torch.uint8).numpy(), 5, confidence.numpy())
    ours = expected_calibration_error.compute(collect(prediction, target.to(torch.uint8).numpy()))
    theirs = MulticlassCalibrationError(5, n_bins=15, norm="l1", ignore_index=IGNORE_INDEX)(probabilities, target)
    assert ours == pytest.approx(float(theirs), rel=1e-5)
