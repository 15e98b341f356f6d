"""Each scheme's numbers, worked out by hand, and what every scheme keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segpipe.choices import WEIGHTINGS

# Two samples of 100 labelled px: class 0 in both, 1 in the first, 2 in the second.
NUM_PX = np.array([[60, 40, 0], [90, 0, 10]])
SHARES = np.array([150, 40, 10]) / 200  # 0.75, 0.2, 0.05


@pytest.mark.parametrize(
    ("scheme", "options", "expected"),
    [
        ("none", {}, [1, 1, 1]),
        ("inverse_frequency", {}, [4 / 3, 5, 20]),
        ("inverse_frequency", {"power": 0.5}, [(4 / 3) ** 0.5, 5**0.5, 20**0.5]),
        # Frequencies where present: 150/200, 40/100, 10/100; their median is 0.4.
        ("median_frequency", {}, [0.4 / 0.75, 1, 4]),
        ("enet", {}, [1 / math.log(1.77), 1 / math.log(1.22), 1 / math.log(1.07)]),
        ("enet", {"offset": 2.0}, [1 / math.log(2.75), 1 / math.log(2.2), 1 / math.log(2.05)]),
        # Whole frames of 100 px: 1.5, 0.4 and 0.1.
        ("effective_number", {"beta": 0.5}, [0.5 / (1 - 0.5**1.5), 0.5 / (1 - 0.5**0.4), 0.5 / (1 - 0.5**0.1)]),
        ("effective_number", {"beta": 0}, [1, 1, 1]),
    ],
)
def test_numbers_by_hand(scheme: str, options: dict[str, float], expected: list[float]) -> None:
    np.testing.assert_allclose(WEIGHTINGS.call(scheme, options, num_px=NUM_PX), expected, rtol=1e-12)


def test_effective_number_approaches_the_inverse_frequency() -> None:
    weights = WEIGHTINGS.call("effective_number", {"beta": 0.999999}, num_px=NUM_PX)
    np.testing.assert_allclose(weights / weights[0], SHARES[0] / SHARES, rtol=1e-4)


def test_enet_is_bounded_as_the_paper_says() -> None:
    weights = WEIGHTINGS.call("enet", {}, num_px=np.array([[10**12, 1]]))
    assert weights == pytest.approx([1.42, 50.5], rel=5e-3)


@pytest.mark.parametrize("scheme", WEIGHTINGS.names())
def test_every_scheme_gives_positive_weights_and_a_rarer_class_never_less(scheme: str) -> None:
    weights = WEIGHTINGS.call(scheme, {}, num_px=np.array([[10**9, 10**5, 1], [10**9, 10**5, 1]]))
    assert weights.shape == (3,)
    assert weights.dtype == np.float64
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert (np.diff(weights) >= 0).all()


@pytest.mark.parametrize("scheme", WEIGHTINGS.names())
def test_every_scheme_gives_equal_weights_to_equal_classes(scheme: str) -> None:
    weights = WEIGHTINGS.call(scheme, {}, num_px=np.full((4, 3), 7))
    np.testing.assert_allclose(weights, weights[0])
