"""What masks hold, all together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.data.sources.survey import MAX_DIFFERENT, MAX_MASKS, survey_masks


def _save(path: Path, pixels: list[list[object]], palette: list[int] | None = None) -> Path:
    picture = Image.fromarray(np.array(pixels, np.uint8))
    if palette is not None:
        picture.putpalette(palette)
    picture.save(path)
    return path


def test_values_are_counted_by_masks(tmp_path: Path) -> None:
    paths = [_save(tmp_path / "a.png", [[0, 255], [255, 0]]), _save(tmp_path / "b.png", [[0, 7]])]
    found = survey_masks(paths)
    assert (found.values, found.colors, found.num_masks) == ({0: 2, 7: 1, 255: 1}, {}, 2)
    assert found.is_of_values and not found.is_of_colors


def test_a_palette_gives_the_values_their_colours(tmp_path: Path) -> None:
    found = survey_masks([_save(tmp_path / "a.png", [[0, 1]], [9, 8, 7, 200, 0, 10])])
    assert (found.values, found.palette) == ({0: 1, 1: 1}, {0: (9, 8, 7), 1: (200, 0, 10)})


def test_palettes_that_differ_give_no_colours(tmp_path: Path) -> None:
    paths = [_save(tmp_path / f"{i}.png", [[0, 1]], [i, 8, 7, 200, 0, 10]) for i in (1, 2)]
    assert survey_masks(paths).palette == {}


def test_colours_are_counted_by_masks(tmp_path: Path) -> None:
    paths = [_save(tmp_path / f"{i}.png", [[[0, 0, 0], [200, 0, i]]]) for i in (1, 2)]
    found = survey_masks(paths)
    assert found.colors == {(0, 0, 0): 2, (200, 0, 1): 1, (200, 0, 2): 1}
    assert found.is_of_colors


def test_three_equal_channels_are_values(tmp_path: Path) -> None:
    assert survey_masks([_save(tmp_path / "a.png", [[[0, 0, 0], [3, 3, 3]]])]).values == {0: 1, 3: 1}


def test_what_is_no_mask_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    found = survey_masks([tmp_path / "a.png", tmp_path / "absent.png", _save(tmp_path / "b.png", [[1, 2]])])
    assert (found.num_masks, found.values) == (1, {1: 1, 2: 1})
    assert found.unread.startswith("a.png: is not an image")


def test_a_photograph_is_neither(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).tolist()
    found = survey_masks([_save(tmp_path / "a.png", pixels)])
    assert len(found.colors) == MAX_DIFFERENT and not found.is_of_colors


@pytest.mark.parametrize(("num_masks", "num_read"), [(MAX_MASKS, MAX_MASKS), (MAX_MASKS + 1, 101)])
def test_of_many_masks_evenly_spread_ones_are_read(tmp_path: Path, num_masks: int, num_read: int) -> None:
    path = _save(tmp_path / "a.png", [[0, 1]])
    found = survey_masks([path] * num_masks)
    assert (found.num_masks, found.num_in_set) == (num_read, num_masks)
    assert (f"{num_read} of the {num_masks}" in found.extent) == (num_read < num_masks)


def test_a_colour_mask_that_holds_only_background_is_one_of_colours(tmp_path: Path) -> None:
    paths = [_save(tmp_path / "a.png", [[[0, 0, 0], [200, 0, 9]]]), _save(tmp_path / "b.png", [[[0, 0, 0], [0, 0, 0]]])]
    found = survey_masks(paths)
    assert found.is_of_colors
    assert found.colors == {(0, 0, 0): 2, (200, 0, 9): 1}


def test_compression_with_loss_is_noticed(tmp_path: Path) -> None:
    assert survey_masks([_save(tmp_path / "a.jpg", [[0, 255]] * 8)]).is_lossy
    assert not survey_masks([_save(tmp_path / "a.png", [[0, 255]])]).is_lossy
