"""What is counted where two predictions differ, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from facts import missing
from samples import Sample

from segpipe.data.store import Store
from segpipe.errors import ExportError
from segpipe.export.exported import Prediction
from segpipe.export.parity import FP32, ODD_SIZES, Batch, Limits, check_parity, compare, compare_on

BLANK = np.zeros((2, 4, 5, 3), np.uint8)


def _predict(images: np.ndarray) -> Prediction:
    return Prediction(np.zeros(images.shape[:3], np.uint8), np.full(images.shape[:3], 0.5, np.float32))


def _predict_otherwise(images: np.ndarray) -> Prediction:
    """The first row of the last image has another class, and a pixel of the first image another confidence."""
    prediction = _predict(images)
    prediction.masks_NHW[-1, 0] = 1
    prediction.confidences_NHW[0, 1, 1] = 0.75
    return prediction


def test_pixels_and_confidences_are_counted() -> None:
    batches = [Batch(("a", "b"), BLANK), Batch(("c",), BLANK[:1])]
    found = compare(_predict, _predict_otherwise, "noise", batches, num_classes=2)
    assert found.mean_iou is None
    agreement = found.agreement
    assert (agreement.images, agreement.num_images, agreement.num_px, agreement.num_unequal_px) == ("noise", 3, 60, 10)
    assert agreement.equal_share == pytest.approx(50 / 60)
    assert agreement.max_confidence_difference == pytest.approx(0.25)
    assert (agreement.worst, agreement.worst_equal_share) == ("c", pytest.approx(15 / 20))


def test_the_mean_iou_is_that_of_all_images() -> None:
    masks = np.zeros((1, 4, 5), np.uint8)
    masks[0, 3] = 255
    found = compare(_predict, _predict_otherwise, "one", [Batch(("a",), BLANK[:1], masks)], num_classes=2)
    assert found.mean_iou == 1
    assert found.mean_iou_of_other == pytest.approx(10 / 15)


def test_images_are_compared_as_they_are_and_at_other_sizes(
    make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    store = make_store([make_sample("a_0", "train"), make_sample("b_0", "val"), make_sample("b_1", "val", 36)])
    parity = compare_on(store, _predict, _predict, num_classes=3)
    assert parity.images == "validation"
    assert parity.dataset_digest == store.of_split("val").digest
    assert [one.num_px for one in parity.agreements] == [32 * 32 + 36 * 32, *(2 * h * w for h, w in ODD_SIZES)]
    assert parity.mean_iou == parity.mean_iou_of_export
    check_parity(parity, FP32)


def test_without_a_data_set_the_images_are_made_up() -> None:
    parity = compare_on(None, _predict, _predict, num_classes=3)
    assert (parity.images, parity.dataset_digest, parity.mean_iou) == ("made up", None, None)
    assert len(parity.agreements) == 4


def test_a_difference_is_refused_with_image_size_and_share(
    make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    store = make_store([make_sample("a_0", "train"), make_sample("b_0", "val"), make_sample("b_1", "val")])
    parity = compare_on(store, _predict, _predict_otherwise, num_classes=3)
    with pytest.raises(ExportError) as raised:
        check_parity(parity, FP32)
    # One of 32 rows, and one of the 97 of one image of two.
    assert not missing(
        str(raised.value), "99.99%", "validation", "b_0", "96.8750%", "97x131", "99.4845%", "mIoU", "0.25"
    )
    check_parity(parity, Limits(min_equal_share=0.9, max_mean_iou_difference=10))
