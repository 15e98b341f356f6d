"""IoU by the size of objects: by hand, and next to scipy's labelling of each class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics import iou_large_objects, iou_medium_objects, iou_small_objects
from segpipe.metrics.evidence import confusion
from segpipe.metrics.evidence.objects import collect, size_of_object
from segpipe.metrics.parts.prediction import Prediction


def _slow_sizes(mask: np.ndarray) -> np.ndarray:
    sizes = np.zeros(mask.shape, np.uint8)
    for name in np.unique(mask):
        objects, num = ndimage.label(mask == name, np.ones((3, 3)))
        for number in range(1, num + 1):
            area = np.count_nonzero(objects == number)
            sizes[objects == number] = (area >= 32**2) + (area >= 96**2)
    return sizes


@pytest.mark.parametrize(("seed", "smoothing"), [(0, 1.5), (1, 6.0), (2, 0.0)])
def test_sizes_agree_with_scipy(seed: int, smoothing: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((3, 150, 170))
    mask = ndimage.gaussian_filter(noise, (0, smoothing, smoothing)).argmax(axis=0).astype(np.uint8)
    mask[:20] = IGNORE_INDEX
    np.testing.assert_array_equal(size_of_object(mask), _slow_sizes(mask))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_the_smallest_images_are_small(shape: tuple[int, int]) -> None:
    assert not size_of_object(np.zeros(shape, np.uint8)).any()


def test_bounds_are_those_of_coco() -> None:
    mask = np.ones((240, 120), np.uint8)  # one object around the others: large
    mask[2:34, 2:34] = 0  # 1024 px: medium
    mask[40:71, 2:35] = 0  # 1023 px: small
    mask[80:176, 2:98] = 0  # 9216 px: large
    mask[180:238, 2:100] = 0  # 5684 px: medium
    sizes = size_of_object(mask)
    assert [int(sizes[y, x]) for y, x in ((2, 2), (40, 2), (80, 2), (180, 2), (0, 0))] == [1, 0, 2, 1, 2]


def test_by_hand() -> None:
    # Class 1: an object of 10 x 10 and one of 40 x 40, half of the large one is missed; a false object of 5 x 5.
    truth = np.zeros((1, 120, 120), np.uint8)
    truth[0, :10, :10] = 1
    truth[0, 20:60, 20:60] = 1
    predicted = truth.copy()
    predicted[0, 20:40, 20:60] = 0
    predicted[0, 100:105, 100:105] = 1
    evidence = collect(Prediction(predicted, 2), truth)
    # (size, quantity) of class 1: hit, missed, false
    assert evidence.total()[1].tolist() == [[100, 0, 25], [800, 800, 0], [0, 0, 0]]
    assert iou_small_objects.compute(evidence) == pytest.approx(100 / 125)
    assert iou_medium_objects.compute(evidence) == pytest.approx(800 / 1600)
    background = 120 * 120 - 100 - 1600
    # Class 0 is one large object in the truth, and in the prediction, which holds the 800 missed px too.
    assert iou_large_objects.compute(evidence) == pytest.approx((background - 25) / (background + 800))


def test_the_sizes_add_up_to_the_class() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (2, 12, 10)).astype(np.uint8).repeat(10, 1).repeat(10, 2)
    predicted = np.roll(truth, 7, axis=2)
    truth[:, :15] = IGNORE_INDEX
    hit, missed, false = collect(Prediction(predicted, 4), truth).total().sum(axis=1).T
    matrix = confusion.collect(Prediction(predicted, 4), truth).total()
    np.testing.assert_array_equal(hit, matrix.diagonal())
    np.testing.assert_array_equal(missed, matrix.sum(axis=1) - matrix.diagonal())
    np.testing.assert_array_equal(false, matrix.sum(axis=0) - matrix.diagonal())
