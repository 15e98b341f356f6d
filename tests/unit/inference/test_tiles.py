"""How an image is cut: every size, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.inference import tiles
from segpipe.inference.tiles import MAX_WHOLE_PX, Tile, is_huge, plan_tiles

WINDOW, MARGIN, ALIGNMENT = 32, 8, 4


@pytest.fixture
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "WINDOW_PX", WINDOW)
    monkeypatch.setattr(tiles, "MARGIN_PX", MARGIN)
    monkeypatch.setattr(tiles, "ALIGNMENT_PX", ALIGNMENT)


@pytest.mark.usefixtures("_small_windows")
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (35, 200), (36, 7), (97, 131), (128, 64)], ids=str)
def test_the_cores_cover_each_pixel_once(size: tuple[int, int]) -> None:
    count = np.zeros(size, int)
    for tile in plan_tiles(*size):
        count[tile.core] += 1
        seen = np.full(size, -1)
        seen[tile.window] = 0
        seen[tile.window][tile.core_in_window] = 1
        assert (seen[tile.core] == 1).all()
        assert (seen == 1).sum() == seen[tile.core].size
    assert (count == 1).all()


@pytest.mark.usefixtures("_small_windows")
def test_every_window_is_full_aligned_and_has_its_margin() -> None:
    for length in range(1, 40 * WINDOW):
        cut = [(tile.window[0], tile.core[0]) for tile in plan_tiles(length, 1)]
        assert cut[0][0].start == 0
        assert cut[-1][0].stop == length
        for window, core in cut:
            assert min(length, WINDOW) <= window.stop - window.start < WINDOW + ALIGNMENT
            assert window.start % ALIGNMENT == 0
            assert window.start == core.start == 0 or core.start - window.start >= MARGIN
            assert window.stop == core.stop == length or window.stop - core.stop >= MARGIN
        most = max(1, -(-(length - 2 * MARGIN) // (WINDOW - 2 * MARGIN)))
        assert len(cut) <= most


@pytest.mark.usefixtures("_small_windows")
def test_the_windows_are_evenly_spread() -> None:
    starts = [tile.window[0].start for tile in plan_tiles(70, 1)]
    assert starts == [0, 12, 24, 36]  # not 0, 16, 32, 36
    assert [tile.core[0] for tile in plan_tiles(70, 1)] == [slice(0, 22), slice(22, 34), slice(34, 46), slice(46, 70)]


def test_a_huge_image_is_more_than_the_limit() -> None:
    assert not is_huge(2048, 2048)
    assert not is_huge(1, MAX_WHOLE_PX)
    assert is_huge(2048, 2049)
    assert len(plan_tiles(10_000, 10_000)) == 81
    whole = (slice(0, 1599), slice(0, 9))
    assert plan_tiles(1599, 9) == [Tile(whole, whole)]
