"""Boundary F1: by hand, and next to distance transforms of scipy, one for each class and mask."""

from __future__ import annotations

from math import hypot

import numpy as np
import pytest
from scipy import ndimage

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics import boundary_f1, boundary_f1_px
from segpipe.metrics.evidence import boundaries
from segpipe.metrics.evidence.boundaries import collect, find_boundary, widen
from segpipe.metrics.parts.prediction import Prediction


def _blobs(num_classes: int, shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((num_classes, *shape)), (0, 4, 4))
    return noise.argmax(axis=0).astype(np.uint8)


def _slow_boundary(mask: np.ndarray) -> np.ndarray:
    boundary = np.zeros(mask.shape, bool)
    for y, x in np.ndindex(*mask.shape):
        for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= other[0] < mask.shape[0] and 0 <= other[1] < mask.shape[1]
            if inside and mask[y, x] != mask[other] and IGNORE_INDEX not in (mask[y, x], mask[other]):
                boundary[y, x] = True
    return boundary


def _slow_f1(truth: np.ndarray, predicted: np.ndarray, tolerance_px: float) -> float:
    predicted = np.where(truth == IGNORE_INDEX, IGNORE_INDEX, predicted)
    edges = [_slow_boundary(truth), _slow_boundary(predicted)]
    scores = []
    for name in np.unique(truth[edges[0]]):
        of_truth, of_prediction = (edge & (mask == name) for edge, mask in zip(edges, (truth, predicted), strict=True))
        if not of_prediction.any():
            scores.append(0.0)
            continue
        recall = (ndimage.distance_transform_edt(~of_prediction)[of_truth] <= tolerance_px).mean()
        precision = (ndimage.distance_transform_edt(~of_truth)[of_prediction] <= tolerance_px).mean()
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(scores))


@pytest.mark.parametrize(("num_classes", "max_bits"), [(3, 64), (12, 64), (12, 8), (20, 5)])
def test_agrees_with_distance_transforms(num_classes: int, max_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "MAX_BITS", max_bits)
    truth, other = (_blobs(num_classes, (70, 90), seed) for seed in (0, 1))
    predicted = np.roll(truth, (2, 3), axis=(0, 1))
    predicted[30:] = other[30:]
    truth[10:20, 10:30] = IGNORE_INDEX
    evidence = collect(Prediction(predicted[None], num_classes), truth[None])
    share_px = 0.0075 * hypot(70, 90)
    assert boundary_f1.compute(evidence) == pytest.approx(_slow_f1(truth, predicted, share_px), rel=1e-12)
    assert boundary_f1_px.compute(evidence) == pytest.approx(_slow_f1(truth, predicted, 3.0), rel=1e-12)


def test_a_shifted_line_by_hand() -> None:
    # The boundary between columns 9 and 10 is predicted between 14 and 15: 5 px for either class. Tolerances 0.75% of
    # 283 = 2.1 px and 3 px are too small; shifted by two pixels it is within both.
    truth = np.zeros((1, 200, 200), np.uint8)
    truth[:, :, 10:] = 1
    for shift, by_share, by_px in ((5, 0.0, 0.0), (3, 0.0, 1.0), (2, 1.0, 1.0)):
        predicted = np.zeros_like(truth)
        predicted[:, :, 10 + shift :] = 1
        evidence = collect(Prediction(predicted, 2), truth)
        assert (boundary_f1.compute(evidence), boundary_f1_px.compute(evidence)) == (by_share, by_px)


def test_the_score_is_the_mean_over_images() -> None:
    truth = np.zeros((3, 20, 20), np.uint8)
    truth[:2, :, 10:] = 1  # the third image has no boundary and does not count
    predicted = truth.copy()
    predicted[1] = 0
    assert boundary_f1.compute(collect(Prediction(predicted, 2), truth)) == 0.5


@pytest.mark.parametrize("stripe_rows", [boundaries.STRIPE_ROWS, 7])
@pytest.mark.parametrize("radius_px", [0.0, 1.0, 1.5, 4.5, 12.0])
def test_widening_is_by_a_disc(radius_px: float, stripe_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "STRIPE_ROWS", stripe_rows)
    is_set = np.random.default_rng(0).random((40, 30)) < 0.01
    expected = ndimage.distance_transform_edt(~is_set) <= radius_px
    np.testing.assert_array_equal(widen(is_set.astype(np.uint16) * 4, radius_px), expected * 4)


def test_the_rim_and_void_are_no_boundary() -> None:
    mask = np.array([[0, 0, 255, 1], [0, 0, 255, 1], [0, 2, 255, 1]], np.uint8)
    assert find_boundary(mask).tolist() == [5, 8, 9]
    np.testing.assert_array_equal(np.flatnonzero(_slow_boundary(mask)), [5, 8, 9])
