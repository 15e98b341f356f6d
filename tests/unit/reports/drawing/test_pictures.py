"""Grids: every sample where its titles say it is."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.classes import ClassTable
from segpipe.data.loading.transform import Pair
from segpipe.reports.drawing.overlay import overlay
from segpipe.reports.drawing.pictures import GAP_PX, LINE_PX, GridRow, draw_grid


def _plain(value: int, height: int, width: int) -> Pair:
    return np.full((height, width, 3), value, np.uint8), np.ones((height, width), np.uint8)


def test_a_grid_shows_image_and_mask_of_every_sample(classes: ClassTable) -> None:
    rows = [GridRow(f"s_{i}", [_plain(10 * i + j, 32, 48) for j in range(3)]) for i in range(2)]
    grid = draw_grid(["original", "epoch 1", "epoch 2"], rows, classes)
    row_height = LINE_PX + 2 * (32 + GAP_PX)
    assert grid.shape[1] == 3 * (48 + GAP_PX)
    for i, row in enumerate(rows):
        top = LINE_PX + i * row_height + LINE_PX
        for j, (image, mask) in enumerate(row.samples):
            left = j * (48 + GAP_PX)
            np.testing.assert_array_equal(grid[top : top + 32, left : left + 48], image)
            below = top + 32 + GAP_PX
            np.testing.assert_array_equal(grid[below : below + 32, left : left + 48], overlay(image, mask, classes))


def test_an_original_of_another_size_is_shrunk_into_its_cell_whole(classes: ClassTable) -> None:
    grid = draw_grid(["a", "b"], [GridRow("s", [_plain(7, 100, 400), _plain(9, 32, 48)])], classes)
    cell = grid[2 * LINE_PX : 2 * LINE_PX + 32, :48]
    assert (cell[:12] == 7).all()  # 48 / 400 of 100 rows
    assert (cell[12:] == 255).all()


@pytest.mark.parametrize(("size", "expected"), [((1000, 500), (320, 160)), ((5, 3000), (1, 320)), ((9, 9), (9, 9))])
def test_large_samples_are_shrunk(classes: ClassTable, size: tuple[int, int], expected: tuple[int, int]) -> None:
    grid = draw_grid(["a"], [GridRow("s", [_plain(7, *size)])], classes)
    height, width = expected
    assert (grid[2 * LINE_PX :][:height, :width] == 7).all()
    assert grid.shape[1] == width + GAP_PX
    assert (grid[2 * LINE_PX + height :][:GAP_PX] == 255).all()


def test_the_legend_shows_every_colour_however_narrow_the_grid() -> None:
    colors = tuple((i, 100, 50) for i in range(30))
    table = ClassTable(tuple(f"class {i}" for i in range(30)), colors)
    grid = draw_grid(["a"], [GridRow("s", [_plain(200, 40, 80)])], table)
    seen = {tuple(color) for color in grid[-30 * LINE_PX :].reshape(-1, 3).tolist()}
    assert set(colors) <= seen
