"""What every metric keeps, found by the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segpipe.choices import METRICS
from segpipe.metrics.parts.scores import read_about

pytestmark = pytest.mark.parametrize("name", METRICS.names())

# Images, classes, classes; class 2 has no labelled pixel and is predicted once.
CONFUSIONS = np.array([[[5, 1, 0], [2, 6, 1], [0, 0, 0]], [[3, 0, 0], [0, 4, 0], [0, 0, 0]]])
EVIDENCE = {"confusion": CONFUSIONS}


def values_of(name: str, evidence: Any) -> np.ndarray:
    return np.atleast_1d(METRICS.function_of(name)(evidence))


def test_it_has_a_label_and_a_value_or_one_for_each_class(name: str) -> None:
    about = read_about(name)
    assert about.label
    values = METRICS.function_of(name)(EVIDENCE[about.evidence])
    assert np.shape(values) == ((3,) if about.is_per_class else ())


def test_it_depends_on_the_whole_set_and_not_on_the_order_of_images(name: str) -> None:
    evidence = EVIDENCE[read_about(name).evidence]
    np.testing.assert_array_equal(values_of(name, evidence), values_of(name, evidence[::-1]))
    assert not np.array_equal(values_of(name, evidence), values_of(name, evidence[:1]), equal_nan=True)


def test_a_class_without_a_labelled_pixel_does_not_count(name: str) -> None:
    """Its pixels count against the classes in whose place it is predicted, so nothing but its own place may differ."""
    about = read_about(name)
    values = values_of(name, EVIDENCE[about.evidence])
    assert np.isnan(values).tolist() == ([False, False, True] if about.is_per_class else [False])


def test_without_a_labelled_pixel_there_is_no_value(name: str) -> None:
    assert np.isnan(values_of(name, np.zeros_like(EVIDENCE[read_about(name).evidence]))).all()
