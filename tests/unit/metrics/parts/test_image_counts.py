"""Sparse counts next to the dense arrays that they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segpipe.metrics.parts.image_counts import ImageCounts

AXES = ("truth", "predicted")


@pytest.fixture(params=[np.int64, np.float64])
def dense(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (6, 2, 4)) * rng.integers(1, 1000, (6, 2, 4))
    counts[2] = 0  # an image of void
    return counts.astype(request.param) / (1 if request.param is np.int64 else 4)


def assert_equal(counts: ImageCounts, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(counts.dense(), expected)
    assert counts.dense().dtype == counts.total().dtype == expected.dtype
    np.testing.assert_array_equal(counts.total(), expected.sum(axis=0))
    assert (counts.pixels != 0).all()
    assert (np.diff(counts.image * 8 + counts.cell) > 0).all()  # sorted, and no cell twice


def test_it_is_the_dense_table(dense: np.ndarray) -> None:
    counts = ImageCounts.of_dense(dense, AXES)
    assert (counts.num_images, counts.shape) == (6, (2, 4))
    assert_equal(counts, dense)
    truth, predicted = (counts.along(axis) for axis in AXES)
    np.testing.assert_array_equal(dense[counts.image, truth, predicted], counts.pixels)


def test_parts_are_joined_and_taken(dense: np.ndarray) -> None:
    counts = ImageCounts.join([ImageCounts.of_dense(part, AXES) for part in (dense[:1], dense[1:4], dense[4:])])
    assert_equal(counts, dense)
    assert_equal(counts.between(1, 4), dense[1:4])
    assert_equal(counts.take([5, 0, 2]), dense[[5, 0, 2]])
    assert counts.take([]).num_images == 0


def test_units_are_sums_of_images(dense: np.ndarray) -> None:
    unit = np.array([2, 0, 0, 2, 1, 0])
    expected = np.stack([dense[unit == number].sum(axis=0) for number in range(4)])  # unit 3 has no image
    assert_equal(ImageCounts.of_dense(dense, AXES).merge(unit, 4), expected)
    assert_equal(ImageCounts.of_dense(dense[2:3], AXES).merge(np.array([0]), 1), dense[2:3])


def test_a_file_holds_all_of_it(dense: np.ndarray, tmp_path: Path) -> None:
    ImageCounts.of_dense(dense, AXES).write(tmp_path / "counts.parquet")
    counts = ImageCounts.read(tmp_path / "counts.parquet")
    assert counts.axes == AXES
    assert_equal(counts, dense)
    ImageCounts.of_dense(dense[:0], AXES).write(tmp_path / "none.parquet")
    assert ImageCounts.read(tmp_path / "none.parquet").dense().shape == (0, 2, 4)


def test_another_file_is_no_such_table(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"image": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="holds no counts"):
        ImageCounts.read(tmp_path / "other.parquet")
    with pytest.raises(OSError):
        ImageCounts.read(tmp_path / "missing.parquet")
