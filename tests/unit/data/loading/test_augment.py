"""Geometry by hand, image and mask in step, and each random number distributed as its documentation says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from samples import Sample
from scipy import ndimage, stats

from segpipe.config.augment import Augment
from segpipe.data.loading import augment
from segpipe.data.loading.augment import PADDING_COLOR, Augmenter, cut_and_resize
from segpipe.data.loading.augmentations import color_jitter
from segpipe.data.loading.transform import Pair, draw_weighted, rarity
from segpipe.data.store import Store
from segpipe.errors import ConfigError

MakeStore = Callable[..., Store]
BLOCK = 16
FLIP = {"name": "flip", "probability": 0.5}
# Below it a p-value means that the distribution is another one; seeds are fixed, so it cannot fail by chance.
MIN_P = 0.001


@pytest.fixture
def blocks() -> Pair:
    """Random blocks of 16 px, 128 x 160 px; the image's red channel is 40 times the mask."""
    mask = np.random.default_rng(0).integers(0, 6, (8, 10)).astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)
    return np.stack([mask * 40, mask * 0, mask * 0], axis=-1), mask


def _cut(pair: Pair, scale: float, crop: tuple[int, int], place_yx: tuple[float, float]) -> Pair:
    # What lies in the buffers must not matter.
    out = np.full((*crop, 3), 77, np.uint8), np.full(crop, 77, np.uint8)
    cut_and_resize(*pair, scale, place_yx, *out)
    return out


def _settings(**changes: Any) -> Augment:
    return Augment.model_validate({"crop": [32, 48], "scale": [0.5, 2.0], "transforms": [FLIP]} | changes)


def _make(augmenter: Augmenter, index: int, seed: int) -> Pair:
    crop = augmenter.settings.crop
    out = np.full((*crop, 3), 77, np.uint8), np.full(crop, 77, np.uint8)
    augmenter.make_sample(index, np.random.default_rng([0, 0, seed]), *out)
    return out


@pytest.fixture
def store_of(make_store: MakeStore) -> Callable[..., Store]:
    """Makes a store of these images and masks; classes 0, 1 and 2."""

    def make(*pairs: Pair) -> Store:
        return make_store([Sample(f"s_{i}", "s", "train", *pair) for i, pair in enumerate(pairs)])

    return make


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 1.0), (0.25, 0.5)])
def test_scale_1_is_an_exact_crop(blocks: Pair, place: tuple[float, float]) -> None:
    image, mask = _cut(blocks, 1.0, (32, 48), place)
    y, x = round((128 - 32) * place[0]), round((160 - 48) * place[1])
    np.testing.assert_array_equal(image, blocks[0][y : y + 32, x : x + 48])
    np.testing.assert_array_equal(mask, blocks[1][y : y + 32, x : x + 48])


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_window_larger_than_the_image_is_padded_with_void(blocks: Pair, place: float) -> None:
    image, mask = _cut(blocks, 1.0, (148, 200), (place, place))
    # At place 0 the window begins where the image does; at 1 both end together.
    y, x = round(20 * place), round(40 * place)
    inside = np.zeros(mask.shape, bool)
    inside[y : y + 128, x : x + 160] = True
    np.testing.assert_array_equal(mask[inside], blocks[1].ravel())
    np.testing.assert_array_equal(image[inside], blocks[0].reshape(-1, 3))
    assert (mask[~inside] == 255).all()
    assert (image[~inside] == PADDING_COLOR).all()


@pytest.mark.parametrize("crop", [(148, 60), (60, 200)])
def test_a_window_larger_in_one_direction_only(blocks: Pair, crop: tuple[int, int]) -> None:
    image, mask = _cut(blocks, 1.0, crop, (0.0, 0.0))
    height, width = min(crop[0], 128), min(crop[1], 160)
    np.testing.assert_array_equal(image[:height, :width], blocks[0][:height, :width])
    assert (mask == 255).sum() == mask.size - height * width
    assert (image[height:] == PADDING_COLOR).all()
    assert (image[:, width:] == PADDING_COLOR).all()


def test_half_the_size_shows_the_whole_image(blocks: Pair) -> None:
    image, mask = _cut(blocks, 0.5, (64, 80), (0.3, 0.8))
    np.testing.assert_array_equal(mask, blocks[1][::2, ::2])
    np.testing.assert_array_equal(image, blocks[0][::2, ::2])


def test_twice_the_size_shows_a_quarter(blocks: Pair) -> None:
    _, mask = _cut(blocks, 2.0, (128, 160), (0.0, 1.0))
    np.testing.assert_array_equal(mask, blocks[1][:64, 80:].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("scale", [0.6, 0.9, 1.3, 1.8])
def test_a_cut_is_what_a_crop_of_the_resized_image_would_be(scale: float) -> None:
    """The slow, obvious way: resize all, then crop. Window edges lie up to half a source pixel elsewhere."""
    y, x = np.mgrid[:200, :240]
    image = np.stack([y, x, (y + x) // 2], axis=-1).astype(np.uint8)
    part, _ = _cut((image, np.zeros((200, 240), np.uint8)), scale, (60, 80), (1.0, 1.0))
    whole = cv2.resize(image, (round(240 * scale), round(200 * scale)), interpolation=cv2.INTER_LINEAR)
    assert np.abs(part.astype(int) - whole[-60:, -80:]).max() <= 2


@pytest.mark.parametrize("scale", [0.2, 0.37, 0.5])
def test_no_pixel_is_left_out_of_a_smaller_image(scale: float) -> None:
    """A fine checkerboard becomes grey; picked pixels would stay black and white."""
    checkers = (np.indices((400, 400)).sum(axis=0) % 2 * 200).astype(np.uint8)
    image, _ = _cut((np.dstack([checkers] * 3), checkers), scale, (70, 70), (0.0, 0.0))
    assert np.abs(image.astype(int) - 100).max() <= 45


@pytest.mark.parametrize("scale", [0.4, 0.5, 0.77, 1.0, 1.3, 1.8, 2.0, 3.7])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_image_and_mask_stay_in_step(blocks: Pair, store_of: Callable[..., Store], scale: float, flip: float) -> None:
    """Red stands for the class; away from the edges of blocks it must say what the mask says."""
    settings = _settings(scale=[scale, scale], transforms=[{"name": "flip", "probability": flip}])
    augmenter = Augmenter(store_of(blocks), settings)
    for seed in range(5):
        image, mask = _make(augmenter, 0, seed)
        around = 2 * math.ceil(max(scale, 1) / 2) + 1
        is_uniform = ndimage.maximum_filter(mask, around) == ndimage.minimum_filter(mask, around)
        is_compared = is_uniform & (mask != 255)
        assert is_compared.mean() > 0.1
        np.testing.assert_array_equal(image[is_compared, 0], mask[is_compared] * 40)
        assert (image[mask == 255] == PADDING_COLOR).all()


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.3, 1.8, 3.0, 6.0])
def test_a_window_inside_the_image_holds_no_void(blocks: Pair, scale: float) -> None:
    for place in np.random.default_rng(0).random((50, 2)).tolist():
        _, mask = _cut(blocks, scale, (32, 48), (place[0], place[1]))
        assert not (mask == 255).any(), place


@pytest.mark.parametrize("crop", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("place", [0.0, 0.49, 1.0])
def test_any_shape_of_window_works(blocks: Pair, crop: tuple[int, int], scale: float, place: float) -> None:
    image, mask = _cut(blocks, scale, crop, (place, place))
    assert not (image == 77).all(axis=-1).any()
    assert not (mask == 77).any()


def test_the_same_seed_gives_the_same_sample_and_the_store_stays(blocks: Pair, store_of: Callable[..., Store]) -> None:
    transforms = [FLIP, {"name": "color_jitter", "options": {"brightness": 0.5, "hue": 0.1}}, {"name": "cutmix"}]
    store = store_of(blocks)
    augmenter = Augmenter(store, _settings(transforms=transforms))
    first, again, other = (_make(augmenter, 0, seed) for seed in (1, 1, 2))
    for i in range(2):
        np.testing.assert_array_equal(first[i], again[i])
        np.testing.assert_array_equal(store.read(0)[i], blocks[i])
    assert (first[0] != other[0]).any()


ALL_DRAWS = ("zoom", "place y", "place x", "flip", "brightness", "contrast", "saturation", "turn", "blur", "noise")
JITTER = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1}
BOUNDS = {"brightness": (0.6, 1.4), "contrast": (0.7, 1.3), "saturation": (0.8, 1.2), "turn": (-0.1, 0.1)}


@pytest.fixture
def draw_all(monkeypatch: pytest.MonkeyPatch, blocks: Pair, store_of: Callable[..., Store]) -> Callable[..., Any]:
    """Gives all draws of some generators, one row each, recorded where they are used."""
    transforms = [
        FLIP,
        {"name": "color_jitter", "options": JITTER},
        {"name": "blur", "options": {"sigma_px": [0.2, 2.2]}},
        {"name": "noise", "options": {"sigma": [0, 8]}},
    ]
    augmenter = Augmenter(store_of(blocks), _settings(transforms=transforms))
    heard: dict[str, float] = {}

    def hear_window(image: object, mask: object, scale: float, place_yx: tuple[float, float], *_: object) -> None:
        heard.update({"zoom": scale, "place y": place_yx[0], "place x": place_yx[1], "flip": 0.0})

    def hear_noise(*arguments: Any, **_: object) -> None:
        heard["noise"] = arguments[3]

    monkeypatch.setattr(augment, "cut_and_resize", hear_window)
    monkeypatch.setattr(cv2, "flip", lambda *_, **__: heard.update({"flip": 1.0}))
    monkeypatch.setattr(
        color_jitter,
        "apply_factors",
        lambda _, b, c, s, turn: heard.update({"brightness": b, "contrast": c, "saturation": s, "turn": turn}),
    )
    monkeypatch.setattr(cv2, "GaussianBlur", lambda _, size, sigma, **__: heard.update({"blur": sigma}))
    monkeypatch.setattr(cv2, "addWeighted", hear_noise)

    def draw(keys: Iterator[list[int]]) -> npt.NDArray[np.float64]:
        out = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
        rows = []
        for key in keys:
            augmenter.make_sample(0, np.random.default_rng(key), *out)
            rows.append([heard[name] for name in ALL_DRAWS])
        return np.array(rows)

    return draw


def test_every_draw_is_distributed_as_it_is_documented(draw_all: Callable[..., Any]) -> None:
    draws = dict(zip(ALL_DRAWS, draw_all([0, 0, i + 1] for i in range(1500)).T, strict=True))
    assert stats.binomtest(int(draws["flip"].sum()), 1500, 0.5).pvalue > MIN_P
    uniform = {
        "log zoom": (np.log2(draws["zoom"]), (-1, 1)),
        **{name: (draws[name], (0, 1)) for name in ("place y", "place x")},
        **{name: (draws[name], bounds) for name, bounds in BOUNDS.items()},
        "blur": (draws["blur"], (0.2, 2.2)),
        "noise": (draws["noise"], (0, 8 / 32)),
    }
    for name, (values, (low, high)) in uniform.items():
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > MIN_P, name


@pytest.mark.parametrize("varied", ["seed", "epoch", "index"])
def test_no_draw_follows_another_nor_the_sample_before(draw_all: Callable[..., Any], varied: str) -> None:
    """A stream shared by two transforms has a correlation of 1; so have crops that workers repeat."""
    position = ("seed", "epoch", "index").index(varied)
    keys = ([3, 5, 7][:position] + [i] + [3, 5, 7][position + 1 :] for i in range(800))
    ranks = stats.rankdata(draw_all(keys), axis=0)
    limit = 4.5 / 800**0.5  # standard deviations of a correlation of independent numbers
    assert np.abs(np.corrcoef(ranks.T) - np.eye(len(ALL_DRAWS))).max() < limit
    for lag in (1, 2, 8):
        together = np.corrcoef(ranks[:-lag].T, ranks[lag:].T)[len(ALL_DRAWS) :, : len(ALL_DRAWS)]
        assert np.abs(together).max() < limit


def test_all_places_are_alike(store_of: Callable[..., Store]) -> None:
    """The first and the last place too: rounding would give them half of what the others get."""
    y, x = np.mgrid[:12, :14]
    pair = np.stack([y, x, 0 * x], axis=-1).astype(np.uint8), np.zeros((12, 14), np.uint8)
    augmenter = Augmenter(store_of(pair), _settings(crop=[8, 8], scale=[1.0, 1.0], transforms=[]))
    corners = np.array([_make(augmenter, 0, seed)[0][0, 0, :2] for seed in range(1400)])
    for axis, num_places in ((0, 5), (1, 7)):
        counts = np.bincount(corners[:, axis], minlength=num_places)
        assert len(counts) == num_places
        assert stats.chisquare(counts).pvalue > MIN_P
    together = np.bincount(corners[:, 0] * 7 + corners[:, 1], minlength=35)
    assert stats.chisquare(together).pvalue > MIN_P


@pytest.fixture
def rare_pair() -> Pair:
    """Class 0 with two pixels of class 1 and one of class 2, 60 x 80 px."""
    mask = np.zeros((60, 80), np.uint8)
    mask[5, 70] = mask[50, 3] = 1
    mask[30, 40] = 2
    return np.dstack([mask] * 3), mask


def _rare(**changes: Any) -> Augment:
    plain = {"crop": [10, 10], "scale": [1.0, 1.0], "transforms": []}
    return _settings(**{**plain, "rare_class_crop": {"probability": 1.0, "power": 0.0}, **changes})


@pytest.mark.parametrize("scale", [[1.0, 1.0], [0.5, 2.0]])
def test_a_window_on_a_rare_class_shows_it(rare_pair: Pair, store_of: Callable[..., Store], scale: list[float]) -> None:
    """At power 0 each class has a third; a window of class 1 or 2 shows it always, one placed anywhere seldom."""
    # Blocks, so that a smaller mask does not lose a pixel.
    pair = tuple(array.repeat(4, 0).repeat(4, 1) for array in rare_pair)
    augmenter = Augmenter(store_of(pair), _rare(scale=scale, crop=[40, 40]))
    shown = [np.unique(_make(augmenter, 0, seed)[1]).tolist() for seed in range(300)]
    for rare in (1, 2):
        assert 0.25 < np.mean([rare in classes for classes in shown]) < 0.5
    anywhere = Augmenter(augmenter.store, _rare(scale=scale, crop=[40, 40], rare_class_crop=None))
    assert np.mean([_make(anywhere, 0, seed)[1].any() for seed in range(300)]) < 0.25


def test_a_rare_pixel_lies_anywhere_in_its_window(rare_pair: Pair, store_of: Callable[..., Store]) -> None:
    augmenter = Augmenter(store_of(rare_pair), _rare())
    places = [np.argwhere(_make(augmenter, 0, seed)[1] == 2) for seed in range(1500)]
    rows, columns = np.array([place[0] for place in places if len(place)]).T
    for values in (rows, columns):
        assert stats.chisquare(np.bincount(values, minlength=10)).pvalue > MIN_P


def test_rare_classes_are_drawn_by_inverse_frequency(rare_pair: Pair, store_of: Callable[..., Store]) -> None:
    """Weights 1/4797, 1/2 and 1/1: class 2 in two thirds of the windows."""
    augmenter = Augmenter(store_of(rare_pair), _rare(rare_class_crop={"probability": 1.0, "power": 1.0}))
    num_shown = sum((_make(augmenter, 0, seed)[1] == 2).any() for seed in range(600))
    assert stats.binomtest(int(num_shown), 600, 2 / 3).pvalue > MIN_P


def test_a_sample_without_labels_is_cropped_anywhere(rare_pair: Pair, store_of: Callable[..., Store]) -> None:
    void = rare_pair[0], np.full((60, 80), 255, np.uint8)
    augmenter = Augmenter(store_of(void, rare_pair), _rare())
    assert (_make(augmenter, 0, 1)[1] == 255).all()


def test_only_classes_of_the_sample_are_drawn(rare_pair: Pair, store_of: Callable[..., Store]) -> None:
    plain = rare_pair[0] * 0, rare_pair[1] * 0
    augmenter = Augmenter(store_of(plain, rare_pair), _rare())
    for seed in range(20):
        assert (_make(augmenter, 0, seed)[1] == 0).all()


def test_transforms_are_applied_in_their_order(blocks: Pair, store_of: Callable[..., Store]) -> None:
    """A partner has passed what stands before its transform only."""
    bright = {"name": "albumentations", "options": {"transform": "InvertImg"}}
    dark = np.zeros((32, 48, 3), np.uint8), np.ones((32, 48), np.uint8)
    # Box of the whole crop: what is seen is the partner alone.
    whole = {"name": "classmix"}
    store = store_of(dark)
    before = Augmenter(store, _settings(scale=[1.0, 1.0], transforms=[bright, whole]))
    after = Augmenter(store, _settings(scale=[1.0, 1.0], transforms=[whole, bright, bright]))
    assert (_make(before, 0, 1)[0] == 255).all()
    assert (_make(after, 0, 1)[0] == 0).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_transform_is_applied_to_its_share_of_the_samples(store_of: Callable[..., Store], probability: float) -> None:
    ramp = np.dstack([np.arange(48, dtype=np.uint8)[None].repeat(32, 0)] * 3), np.zeros((32, 48), np.uint8)
    settings = _settings(scale=[1.0, 1.0], transforms=[{"name": "flip", "probability": probability}])
    augmenter = Augmenter(store_of(ramp), settings)
    num_flipped = sum(int(_make(augmenter, 0, seed)[0][0, 0, 0] == 47) for seed in range(500))
    assert stats.binomtest(num_flipped, 500, probability).pvalue > MIN_P


def test_the_rehearsal_finds_transforms_that_fail(blocks: Pair, store_of: Callable[..., Store]) -> None:
    transforms = [{"name": "albumentations", "probability": 0.0, "options": {"transform": "RandomGama"}}]
    augmenter = Augmenter(store_of(blocks), _settings(transforms=transforms))
    with pytest.raises(ConfigError, match="did you mean 'RandomGamma'"):
        augmenter.rehearse()


def test_weighted_draws_follow_their_weights() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([draw_weighted(rng, np.array([1.0, 0.0, 3.0, 4.0, 0.0])) for _ in range(2000)], minlength=5)
    assert counts[1] == counts[4] == 0
    assert stats.chisquare(counts[[0, 2, 3]], [250, 750, 1000]).pvalue > MIN_P


def test_rarity_by_hand() -> None:
    px = np.array([80, 0, 20])
    np.testing.assert_allclose(rarity(px, 1.0), [1.25, 0, 5])
    np.testing.assert_allclose(rarity(px, 0.5), [1.25**0.5, 0, 5**0.5])
    np.testing.assert_allclose(rarity(px, 0.0), [1, 0, 1])
