"""Counting a mask's values: exact for any type and size."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.data.masks import histogram
from segpipe.data.masks.histogram import count_values


@pytest.mark.parametrize(("dtype", "num_values"), [(np.uint8, 256), (np.uint16, 65536), (np.uint16, 300)])
@pytest.mark.parametrize("max_exact_px", [1, 64, 1 << 24])
def test_counts_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, dtype: type, num_values: int, max_exact_px: int
) -> None:
    monkeypatch.setattr(histogram, "MAX_EXACT_PX", max_exact_px)
    values = np.random.default_rng(0).integers(0, num_values, (37, 53)).astype(dtype)
    counts = count_values(values, num_values)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, np.bincount(values.ravel(), minlength=num_values))


def test_values_that_do_not_lie_side_by_side_are_counted_too() -> None:
    values = np.arange(60, dtype=np.uint8).reshape(6, 10)[::2, ::3]
    assert np.flatnonzero(count_values(values)).tolist() == sorted(values.ravel().tolist())


@pytest.mark.parametrize("shape", [(4097, 4097), (1, (1 << 24) + 3), ((1 << 24) + 3, 1)], ids=str)
def test_more_pixels_than_a_float32_can_count_are_counted_exactly(shape: tuple[int, int]) -> None:
    """A float32 stops at 2**24: one more added gives the same number."""
    values = np.full(shape, 7, np.uint8)
    assert count_values(values)[7] == values.size > 1 << 24
