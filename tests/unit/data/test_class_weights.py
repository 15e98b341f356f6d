"""The cap, the scale, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.data.class_weights import compute_class_weights
from segpipe.errors import ConfigError
from segpipe.registry import WEIGHTINGS

NUM_PX = np.array([[60, 40, 0], [90, 0, 10]])


def test_by_hand() -> None:
    # Inverse shares 4/3, 5, 20; times the shares 3/4, 1/5, 1/20 they sum to 3.
    weights = compute_class_weights("inverse_frequency", NUM_PX, 20, {})
    np.testing.assert_allclose(weights, [4 / 9, 5 / 3, 20 / 3])


def test_the_cap_bounds_the_ratio_of_two_weights() -> None:
    # Capped at 3 * 4/3 = 4: 4/3, 4, 4; their mean over the pixels is 1 + 4/5 + 1/5 = 2.
    np.testing.assert_allclose(compute_class_weights("inverse_frequency", NUM_PX, 3, {}), [2 / 3, 2, 2])
    np.testing.assert_allclose(compute_class_weights("inverse_frequency", NUM_PX, 1, {}), [1, 1, 1])


@pytest.mark.parametrize("cap", [2.0, 20.0])
@pytest.mark.parametrize("scheme", WEIGHTINGS.names())
def test_a_labelled_pixel_weighs_one_on_average(scheme: str, cap: float) -> None:
    num_px = np.array([[10**7, 3000, 20], [10**6, 0, 5]])
    weights = compute_class_weights(scheme, num_px, cap, {})
    assert (num_px.sum(axis=0) * weights).sum() / num_px.sum() == pytest.approx(1)
    assert weights.max() / weights.min() <= cap * (1 + 1e-12)


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("median_frequncy", {}, "unknown class-weighting scheme 'median_frequncy'; did you mean 'median_frequency'?"),
        ("enet", {"ofset": 1.1}, "class-weighting scheme 'enet': option ofset: unknown; did you mean 'offset'?"),
        ("enet", {"offset": 1.0}, "class-weighting scheme 'enet': option offset: must be greater than 1 (got 1.0)"),
        ("inverse_frequency", {"power": 2}, "option power: must be less than or equal to 1 (got 2)"),
        ("effective_number", {"beta": 1}, "option beta: must be less than 1 (got 1)"),
        ("effective_number", {"beta": "x"}, "option beta: must be a valid number"),
    ],
)
def test_what_is_refused(scheme: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compute_class_weights(scheme, NUM_PX, 20, options)
    assert message in str(caught.value)
