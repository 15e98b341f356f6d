"""Polygons against the pixels that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path

from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.serving.web import polygons
from segpipe.serving.web.polygons import TooManyCornersError, outline

CLASSES = ClassTable(("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
MASKS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 255]))


def shoelace(ring: list[tuple[int, int]]) -> float:
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_polygons_cover_exactly_their_pixels(mask: np.ndarray) -> None:
    centres = np.stack(np.meshgrid(np.arange(mask.shape[1]), np.arange(mask.shape[0])), axis=-1).reshape(-1, 2) + 0.5
    painted = np.full(mask.shape, IGNORE_INDEX)
    for feature in outline(mask, CLASSES)["features"]:
        index = feature["properties"]["index"]
        for outer, *holes in feature["geometry"]["coordinates"]:
            assert shoelace(outer) > 0
            assert all(shoelace(hole) < 0 for hole in holes)
            assert all(ring[0] == ring[-1] and len(ring) >= 5 for ring in (outer, *holes))
            inside = sum(Path(ring).contains_points(centres).astype(int) for ring in (outer, *holes)) % 2 == 1
            assert shoelace(outer) + sum(map(shoelace, holes)) == inside.sum()
            painted.ravel()[inside] = index
    np.testing.assert_array_equal(painted, mask)


def test_a_hole_and_parts_that_touch_by_a_corner() -> None:
    ring = np.zeros((5, 5), np.uint8)
    ring[1:4, 1:4] = 1
    ring[2, 2] = 0
    of_0, of_1 = outline(ring, CLASSES)["features"]
    ((outer, hole),) = of_1["geometry"]["coordinates"]
    assert outer == [(1, 1), (4, 1), (4, 4), (1, 4), (1, 1)]
    assert set(hole) == {(2, 2), (3, 2), (3, 3), (2, 3)}
    assert len(of_0["geometry"]["coordinates"]) == 2
    assert of_0["properties"] == {"index": 0, "class": "a", "color": [1, 2, 3]}
    corners = np.array([[1, 0], [0, 1]], np.uint8)
    assert len(outline(corners, CLASSES)["features"][1]["geometry"]["coordinates"]) == 2


def test_a_ragged_mask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygons, "MAX_CORNERS", 100)
    with pytest.raises(TooManyCornersError, match="100"):
        outline(np.indices((20, 20)).sum(axis=0).astype(np.uint8) % 2, CLASSES)
