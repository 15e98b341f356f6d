"""What every metric and every kind of evidence keeps, found by the registries."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.choices import EVIDENCE, METRICS
from segpipe.classes import IGNORE_INDEX
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.prediction import Prediction
from segpipe.metrics.parts.scores import read_about

NUM_CLASSES = 3
WITH_A_VALUE_WITHOUT_LABELS = {"support"}  # 0 px


def _make_images() -> tuple[Prediction, np.ndarray]:
    """Two images with small, medium and large objects; class 2 has no labelled pixel and is predicted a few times."""
    rng = np.random.default_rng(0)
    truth = np.zeros((2, 160, 120), np.uint8)
    truth[:, 110:, :] = 1
    truth[0, 20:60, 20:60] = 1
    truth[0, 90:100, 5:25] = truth[1, 90:95, 5:15] = 1
    truth[:, 100:104, 50:60] = IGNORE_INDEX
    classes = np.roll(truth, (2, 1), axis=(1, 2))
    classes[classes == IGNORE_INDEX] = 0
    classes[1, 40:43, 40:45] = 2
    return Prediction(classes, NUM_CLASSES, rng.uniform(0.3, 1, truth.shape).astype(np.float32)), truth


PREDICTION, TRUTH = _make_images()
COLLECTED = {kind: EVIDENCE.function_of(kind)(PREDICTION, TRUTH) for kind in EVIDENCE.names()}

of_each_metric = pytest.mark.parametrize("name", METRICS.names())
of_each_kind = pytest.mark.parametrize("kind", EVIDENCE.names())


def values_of(name: str, evidence: ImageCounts) -> np.ndarray:
    return np.atleast_1d(METRICS.function_of(name)(evidence))


@of_each_metric
def test_it_has_a_label_and_a_value_or_one_for_each_class(name: str) -> None:
    about = read_about(name)
    assert about.label
    values = METRICS.function_of(name)(COLLECTED[about.evidence])
    assert np.shape(values) == ((NUM_CLASSES,) if about.is_per_class else ())


@of_each_metric
def test_it_depends_on_the_whole_set_and_not_on_the_order_of_images(name: str) -> None:
    evidence = COLLECTED[read_about(name).evidence]
    np.testing.assert_allclose(values_of(name, evidence), values_of(name, evidence.take([1, 0])), rtol=1e-12)
    assert not np.array_equal(values_of(name, evidence), values_of(name, evidence.take([0])), equal_nan=True)


@of_each_metric
def test_a_class_without_a_labelled_pixel_does_not_count(name: str) -> None:
    """Its pixels count against the classes in whose place it is predicted, so nothing but its own place may differ."""
    about = read_about(name)
    values = values_of(name, COLLECTED[about.evidence])
    has_value = name in WITH_A_VALUE_WITHOUT_LABELS
    assert np.isnan(values).tolist() == ([False, False, not has_value] if about.is_per_class else [False])


@of_each_metric
def test_without_a_labelled_pixel_there_is_no_value(name: str) -> None:
    nothing = EVIDENCE.function_of(read_about(name).evidence)(PREDICTION, np.full_like(TRUTH, IGNORE_INDEX))
    values = values_of(name, nothing)
    assert (values == 0).all() if name in WITH_A_VALUE_WITHOUT_LABELS else np.isnan(values).all()


@of_each_kind
def test_evidence_has_the_axes_that_its_file_names(kind: str) -> None:
    assert COLLECTED[kind].axes == EVIDENCE.module_of(kind).AXES
    assert COLLECTED[kind].num_images == len(TRUTH)


@of_each_kind
def test_evidence_of_an_image_does_not_depend_on_its_batch(kind: str) -> None:
    alone = Prediction(PREDICTION.classes_NHW[1:], NUM_CLASSES, PREDICTION.confidence_NHW[1:])
    counts = EVIDENCE.function_of(kind)(alone, TRUTH[1:])
    np.testing.assert_array_equal(counts.dense()[0], COLLECTED[kind].dense()[1])


@of_each_kind
def test_void_does_not_count_whatever_is_predicted_there(kind: str) -> None:
    classes, confidence = PREDICTION.classes_NHW.copy(), PREDICTION.confidence_NHW.copy()
    classes[TRUTH == IGNORE_INDEX], confidence[TRUTH == IGNORE_INDEX] = 2, 0.01
    counts = EVIDENCE.function_of(kind)(Prediction(classes, NUM_CLASSES, confidence), TRUTH)
    np.testing.assert_array_equal(counts.dense(), COLLECTED[kind].dense())
