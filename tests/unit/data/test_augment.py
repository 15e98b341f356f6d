"""Geometry by hand, image and mask in step, and draws that are even and repeatable."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segpipe.config import Augment, ColorJitter
from segpipe.data.augment import PADDING_COLOR, ColorJitterTransform, augment_sample, cut_and_resize

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
BLOCK = 16


@pytest.fixture
def blocks() -> Pair:
    """Random blocks of 16 px, 128 x 160 px; the image's red channel is 40 times the mask."""
    mask = np.random.default_rng(0).integers(0, 6, (8, 10)).astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)
    return np.stack([mask * 40, mask * 0, mask * 0], axis=-1), mask


def _settings(**changes: Any) -> Augment:
    return Augment.model_validate({"crop": [32, 48], "flip": 0.5, "scale": [0.5, 2.0]} | changes)


def _augment(pair: Pair, settings: Augment, seed: int) -> Pair:
    return augment_sample(*pair, settings, ColorJitterTransform(settings.color_jitter), np.random.default_rng(seed))


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 1.0), (0.25, 0.5)])
def test_scale_1_is_an_exact_crop(blocks: Pair, place: tuple[float, float]) -> None:
    image, mask = cut_and_resize(*blocks, 1.0, (32, 48), place)
    y, x = round((128 - 32) * place[0]), round((160 - 48) * place[1])
    np.testing.assert_array_equal(image, blocks[0][y : y + 32, x : x + 48])
    np.testing.assert_array_equal(mask, blocks[1][y : y + 32, x : x + 48])


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_window_larger_than_the_image_is_padded_with_void(blocks: Pair, place: float) -> None:
    image, mask = cut_and_resize(*blocks, 1.0, (148, 200), (place, place))
    # At place 0 the window begins where the image does; at 1 both end together.
    y, x = round(20 * place), round(40 * place)
    inside = np.zeros(mask.shape, bool)
    inside[y : y + 128, x : x + 160] = True
    np.testing.assert_array_equal(mask[inside], blocks[1].ravel())
    np.testing.assert_array_equal(image[inside], blocks[0].reshape(-1, 3))
    assert (mask[~inside] == 255).all()
    assert (image[~inside] == PADDING_COLOR).all()


def test_half_the_size_shows_the_whole_image(blocks: Pair) -> None:
    image, mask = cut_and_resize(*blocks, 0.5, (64, 80), (0.3, 0.8))
    np.testing.assert_array_equal(mask, blocks[1][::2, ::2])
    np.testing.assert_array_equal(image, blocks[0][::2, ::2])


def test_twice_the_size_shows_a_quarter(blocks: Pair) -> None:
    _, mask = cut_and_resize(*blocks, 2.0, (128, 160), (0.0, 1.0))
    np.testing.assert_array_equal(mask, blocks[1][:64, 80:].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("scale", [0.4, 0.5, 0.77, 1.0, 1.3, 1.8, 2.0, 3.7])
@pytest.mark.parametrize("flip", [0, 1])
def test_image_and_mask_stay_in_step(blocks: Pair, scale: float, flip: int) -> None:
    """Red stands for the class; away from the edges of blocks it must say what the mask says."""
    for seed in range(5):
        image, mask = _augment(blocks, _settings(scale=[scale, scale], flip=flip), seed)
        is_inside = mask != 255
        red_class = np.rint(image[..., 0] / 40)
        assert np.mean(red_class[is_inside] == mask[is_inside]) > 1 - 0.3 / scale
        assert (image[~is_inside] == PADDING_COLOR).all()


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.3, 1.8, 3.0, 6.0])
def test_a_window_inside_the_image_holds_no_void(blocks: Pair, scale: float) -> None:
    for place in np.random.default_rng(0).random((50, 2)).tolist():
        _, mask = cut_and_resize(*blocks, scale, (32, 48), (place[0], place[1]))
        assert not (mask == 255).any(), place


@pytest.mark.parametrize("crop", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("place", [0.0, 0.49, 1.0])
def test_no_window_is_too_odd(blocks: Pair, crop: tuple[int, int], scale: float, place: float) -> None:
    image, mask = cut_and_resize(*blocks, scale, crop, (place, place))
    assert image.shape == (*crop, 3)
    assert mask.shape == crop


def test_a_flip_mirrors_both(blocks: Pair) -> None:
    plain = _augment(blocks, _settings(flip=0), 3)
    mirrored = _augment(blocks, _settings(flip=1), 3)
    np.testing.assert_array_equal(mirrored[0], plain[0][:, ::-1])
    np.testing.assert_array_equal(mirrored[1], plain[1][:, ::-1])


def test_the_same_seed_gives_the_same_sample_and_the_inputs_stay(blocks: Pair) -> None:
    settings = _settings(color_jitter={"brightness": 0.5, "hue": 0.1})
    before = [array.copy() for array in blocks]
    first, again, other = (_augment(blocks, settings, seed) for seed in (1, 1, 2))
    for i in range(2):
        np.testing.assert_array_equal(first[i], again[i])
        np.testing.assert_array_equal(blocks[i], before[i])
    assert (first[0] != other[0]).any()


def _draws(num_draws: int, settings: Augment) -> npt.NDArray[np.float64]:
    """Zoom, place and side of many successive seeds, read off an image whose pixels hold their own place."""
    y, x = np.mgrid[:100, :100]
    image = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
    jitter = ColorJitterTransform(settings.color_jitter)
    rows = []
    for seed in range(num_draws):
        rng = np.random.default_rng([0, 0, seed])
        part, _ = augment_sample(image, np.zeros((100, 100), np.uint8), settings, jitter, rng)
        slope = (float(part[10, 20, 0]) - float(part[10, 10, 0])) / 10
        rows.append([1 / abs(slope), float(part[15, 15, 1]), float(part[15, 15, 0]), slope < 0])
    return np.array(rows)


def test_draws_are_even_and_successive_seeds_are_not_alike() -> None:
    draws = _draws(1000, _settings(crop=[30, 30], scale=[1.0, 1.0]))
    assert draws[:, 3].mean() == pytest.approx(0.5, abs=0.05)  # 3 standard deviations
    for column in (1, 2):  # centre of the crop: 15 .. 85
        assert draws[:, column].mean() == pytest.approx(50, abs=2.5)
        assert draws[:, column].min() < 17
        assert draws[:, column].max() > 82
    for column in (1, 2, 3):
        assert abs(np.corrcoef(draws[:-1, column], draws[1:, column])[0, 1]) < 0.1
    correlations = np.corrcoef(draws[:, 1:].T) - np.eye(3)
    assert np.abs(correlations).max() < 0.1


def test_zoom_is_log_uniform() -> None:
    draws = _draws(400, _settings(crop=[30, 30], scale=[0.5, 2.0], flip=0))
    # As many show more than the plain size as show less.
    assert np.mean(draws[:, 0] > 1) == pytest.approx(0.5, abs=0.08)
    assert draws[:, 0].min() < 0.6
    assert draws[:, 0].max() > 1.8


def test_color_jitter_changes_colours_by_its_seed_alone(blocks: Pair) -> None:
    image = blocks[0]
    jitter = ColorJitterTransform(ColorJitter(brightness=0.5, contrast=0.3, saturation=0.3, hue=0.1))
    first = jitter(image, 1)
    assert (first != image).any()
    assert (jitter(image, 2) != first).any()
    np.testing.assert_array_equal(jitter(image, 1), first)


def test_color_jitter_of_zero_changes_nothing(blocks: Pair) -> None:
    np.testing.assert_array_equal(ColorJitterTransform(ColorJitter())(blocks[0], 1), blocks[0])


def test_threads_do_not_share_their_random_numbers(blocks: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both threads set their seed before either draws."""
    jitter = ColorJitterTransform(ColorJitter(brightness=0.5, hue=0.2))
    expected = [jitter(blocks[0], seed) for seed in (1, 2)]
    both = threading.Barrier(2, timeout=20)
    compose_class = type(jitter._compose())
    set_random_state = compose_class.set_random_state

    def set_and_wait(compose: object, *state: object) -> None:
        set_random_state(compose, *state)
        both.wait()

    monkeypatch.setattr(compose_class, "set_random_state", set_and_wait)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: jitter(blocks[0], seed), (1, 2)))
    np.testing.assert_array_equal(found, expected)


def test_successive_seeds_draw_brightness_evenly() -> None:
    grey = np.full((2, 2, 3), 100, np.uint8)
    jitter = ColorJitterTransform(ColorJitter(brightness=0.5))
    levels = np.array([float(jitter(grey, seed)[0, 0, 0]) for seed in range(300)])
    assert levels.mean() == pytest.approx(100, abs=6)
    assert levels.std() == pytest.approx(100 / 12**0.5, rel=0.15)  # even over 50 .. 150
    assert abs(np.corrcoef(levels[:-1], levels[1:])[0, 1]) < 0.15
