"""How the sides of an image are covered by windows: every length, row by row."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from segpipe.inference.tiles import ALIGNMENT_PX, LARGE_WINDOW_PX, MAX_WHOLE_PX, is_huge, plan_spans

WINDOW, OVERLAP = 256, 0.25


def _places(length_px: int, overlap: float = OVERLAP) -> list[tuple[int, int]]:
    return [(span.place.start, span.place.stop) for span in plan_spans(length_px, WINDOW, overlap)]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
def test_every_window_is_full_aligned_and_overlaps_the_next(overlap: float) -> None:
    for length in [*range(1, 700), 4000, 4001, 10_000]:
        places = _places(length, overlap)
        assert (places[0][0], places[-1][1]) == (0, length)
        for start, stop in places:
            assert min(length, WINDOW) <= stop - start < WINDOW + ALIGNMENT_PX
            assert start % ALIGNMENT_PX == 0
        for (_, stop), (following, _) in pairwise(places):
            assert stop - following >= int(overlap * WINDOW)


@pytest.mark.parametrize("length", [1, 256, 300, 333, 1000])
def test_the_weights_of_each_row_add_up_to_one(length: int) -> None:
    total = torch.zeros(length)
    for span in plan_spans(length, WINDOW, OVERLAP):
        total[span.place] += span.weights
        assert (span.weights > 0).all()
    torch.testing.assert_close(total, torch.ones(length))


def test_a_row_in_the_middle_of_a_window_is_that_windows_own() -> None:
    first, second = plan_spans(448, WINDOW, OVERLAP)
    assert (first.place, second.place) == (slice(0, 256), slice(192, 448))
    # Row 224 lies 96.5 px from the middle of the first, 95.5 px from that of the second; sigma is 32 px.
    near, far = (float(torch.exp(torch.tensor(-0.5 * (offset / 32) ** 2))) for offset in (95.5, 96.5))
    assert float(first.weights[224]) == pytest.approx(far / (near + far), rel=1e-5)
    assert float(first.weights[127]) == 1.0
    # At its border a window has no influence left.
    assert float(first.weights[255]) < 0.01


def test_the_windows_are_evenly_spread() -> None:
    assert [start for start, _ in _places(600)] == [0, 128, 320]  # not 0, 192, 320


def test_a_huge_image_is_more_than_the_limit() -> None:
    assert not is_huge(2048, 2048)
    assert not is_huge(1, MAX_WHOLE_PX)
    assert is_huge(2048, 2049)
    assert len(plan_spans(10_000, LARGE_WINDOW_PX, OVERLAP)) == 9
