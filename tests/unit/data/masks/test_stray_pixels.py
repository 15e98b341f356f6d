"""Where wrong pixels lie: worked out on a few pixels."""

from __future__ import annotations

import numpy as np

from segpipe.data.masks.stray_pixels import is_along_edges, is_near_edges, is_rippled

EDGE = np.zeros((40, 40), np.uint8)
EDGE[:, 20:] = 200


def wrong_at(*columns: int) -> np.ndarray:
    is_wrong = np.zeros(EDGE.shape, np.bool_)
    is_wrong[:, list(columns)] = True
    return is_wrong


def test_a_ramp_between_two_regions_is_along_an_edge() -> None:
    values = EDGE.copy()
    values[:, 19], values[:, 20] = 66, 133
    assert is_along_edges(values, wrong_at(19, 20))
    assert is_along_edges(np.repeat(values[..., None], 3, axis=2), wrong_at(19, 20))
    assert not is_rippled(values, wrong_at(19, 20))


def test_a_line_of_an_unknown_class_is_not_along_an_edge() -> None:
    values = np.zeros((40, 40), np.uint8)
    values[:, 19] = 7
    assert not is_along_edges(values, wrong_at(19))


def test_a_region_is_not_along_an_edge() -> None:
    values = EDGE.copy()
    is_wrong = wrong_at(*range(8, 32))
    values[is_wrong] = 100
    assert not is_along_edges(values, is_wrong)


def test_waves_next_to_an_edge_ripple_and_lie_near_it() -> None:
    values = EDGE.copy()
    values[:, 10:20:2], values[:, 11:20:2] = 4, 1
    is_wrong = wrong_at(*range(10, 20))
    assert is_rippled(values, is_wrong)
    assert is_near_edges(values, is_wrong)


def test_far_from_all_edges_is_not_near() -> None:
    values = np.zeros((100, 100), np.uint8)
    values[10, 10] = 4
    is_wrong = values == 4
    assert not is_near_edges(values, is_wrong)


def test_a_mostly_wrong_mask_is_not_near_edges() -> None:
    is_wrong = np.ones(EDGE.shape, np.bool_)
    is_wrong[:, 18:22] = False
    assert not is_near_edges(EDGE, is_wrong)
