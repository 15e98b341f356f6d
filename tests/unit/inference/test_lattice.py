"""The lattice against the paper's algorithm, point by point in float64, and against the Gaussian that it stands for."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from segpipe.errors import ConfigError
from segpipe.inference import lattice
from segpipe.inference.lattice import build_lattice

Floats = npt.NDArray[np.float64]
Corner = tuple[int, ...]


def elevate(feature: Floats) -> Floats:
    """The columns of the basis are orthogonal and of length (d + 1) sqrt(2 / 3)."""
    num_dimensions = len(feature)
    columns = []
    for axis in range(num_dimensions):
        column = np.zeros(num_dimensions + 1)
        column[: axis + 1], column[axis + 1] = 1, -(axis + 1)
        columns.append(column / np.linalg.norm(column) * (num_dimensions + 1) * math.sqrt(2 / 3))
    return np.array(columns).T @ feature


def enclose(point: Floats) -> dict[Corner, float]:
    """Finds the corners around a point and their weights: of all simplices nearby, the one that it lies in."""
    num_kinds = len(point)
    floors = [math.floor(coordinate / num_kinds) for coordinate in point]
    for origin in itertools.product(*((floor, floor + 1) for floor in floors)):
        offset = point / num_kinds - np.array(origin)
        order = np.argsort(-offset, kind="stable")
        falling = offset[order]
        if sum(origin) != 0 or falling[0] - falling[-1] > 1:
            continue
        steps = falling[:-1] - falling[1:]
        weights = [1 - steps.sum(), *steps[::-1]]
        corners = {}
        for kind, weight in enumerate(weights):
            corner = np.array(origin) * num_kinds + kind
            corner[order[num_kinds - kind :]] -= num_kinds
            corners[tuple(corner.tolist())] = float(weight)
        return corners
    raise AssertionError("no simplex")


def filter_slowly(features: Floats, values: Floats) -> Floats:
    """The filter with a dictionary of corners: splat, blur, slice."""
    num_kinds = features.shape[1] + 1
    enclosed = [enclose(elevate(feature)) for feature in features]
    table: dict[Corner, Floats] = {}
    for corners, value in zip(enclosed, values, strict=True):
        for corner, weight in corners.items():
            table[corner] = table.get(corner, np.zeros_like(value)) + weight * value
    for axis in range(num_kinds):
        step = np.full(num_kinds, -1)
        step[axis] += num_kinds
        nothing = np.zeros_like(values[0])
        table = {
            corner: value
            + 0.5 * table.get(tuple((corner + step).tolist()), nothing)
            + 0.5 * table.get(tuple((corner - step).tolist()), nothing)
            for corner, value in table.items()
        }
    return np.array([sum(weight * table[corner] for corner, weight in corners.items()) for corners in enclosed])


def draw_features(num_pixels: int, num_dimensions: int, spread: float, seed: int = 0) -> Floats:
    features = np.random.default_rng(seed).uniform(-spread, spread, (num_pixels, num_dimensions))
    return features.astype(np.float32).astype(np.float64)


def run(features: Floats, values: Floats) -> Floats:
    given = torch.tensor(values.T, dtype=torch.float32)
    return build_lattice(torch.tensor(features, dtype=torch.float32)).filter(given).T.double().numpy()


@pytest.mark.parametrize("num_dimensions", [1, 2, 3, 5])
def test_the_filter_is_the_papers(num_dimensions: int) -> None:
    features = draw_features(24, num_dimensions, 1.5)
    values = np.random.default_rng(1).normal(size=(24, 3))
    np.testing.assert_allclose(run(features, values), filter_slowly(features, values), rtol=1e-4, atol=1e-5)


def test_one_pixel_alone() -> None:
    """At a corner: all of its value, and what comes back by half a step along each of the six axes, whose sum is 0."""
    assert run(np.zeros((1, 5)), np.array([[64.0]])).item() == 65.0


def test_far_pixels_do_not_meet() -> None:
    assert run(np.array([[0.0, 0.0], [100.0, 0.0]]), np.array([[1.0], [0.0]]))[1].item() == 0.0


@pytest.mark.parametrize("num_dimensions", [2, 3, 5])
def test_the_weights_give_back_the_features(num_dimensions: int) -> None:
    """Barycentric coordinates: not negative, of sum 1, and the corners' mean by them is the point."""
    features = draw_features(500, num_dimensions, 20.0)
    built = build_lattice(torch.tensor(features, dtype=torch.float32))
    weights = built.weights_PK.double().numpy()
    assert weights.min() > -1e-5
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert built.num_corners == int(built.corners_PK.max()) + 1
    slow = [sorted(enclose(elevate(feature)).values()) for feature in features[:20]]
    np.testing.assert_allclose(np.sort(weights[:20], axis=1), slow, atol=2e-5)


def test_near_a_gaussian_where_pixels_are_dense() -> None:
    """A plane of 64x64 px with a deviation of 6 px, away from its border: the sum over all pairs up to a factor."""
    rows, columns = np.divmod(np.arange(64 * 64), 64)
    features = np.stack([rows, columns], axis=1) / 6
    values = np.random.default_rng(0).uniform(size=(64 * 64, 1))
    gaussian = np.exp(-np.square(np.arange(64)[:, None] - np.arange(64)) / (2 * 6**2))
    exact = (gaussian @ values.reshape(64, 64) @ gaussian).flatten()
    fast = run(features, values)[:, 0]
    inside = (rows >= 12) & (rows < 52) & (columns >= 12) & (columns < 52)
    ratio = fast[inside] / exact[inside]
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.05


def test_the_parts_of_the_classes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, values = draw_features(50, 5, 2.0), np.random.default_rng(1).normal(size=(50, 7))
    together = run(features, values)
    monkeypatch.setattr(lattice, "MAX_VALUES_OF_PIXEL", 0)
    np.testing.assert_allclose(run(features, values), together, rtol=1e-5, atol=1e-6)


def test_the_same_bits_for_any_number_of_threads() -> None:
    features, values = draw_features(3000, 5, 2.0), np.random.default_rng(1).normal(size=(3000, 4))
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(features, values)
        torch.set_num_threads(3)
        np.testing.assert_array_equal(run(features, values), one)
    finally:
        torch.set_num_threads(num_threads)


def test_too_many_cells() -> None:
    features = torch.linspace(0, 1e5, 100)[:, None].expand(-1, 5)
    with pytest.raises(ConfigError, match="appearance_color"):
        build_lattice(features)
