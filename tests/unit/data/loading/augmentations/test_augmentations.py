"""What each augmentation does, against a slow reference or by hand; and a contract that all of them keep."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage, stats

from segpipe.choices import AUGMENTATIONS
from segpipe.data.loading.augmentations import color_jitter, noise
from segpipe.data.loading.transform import Pair
from segpipe.errors import ConfigError

MIN_P = 0.001
# What makes each of them visible; the contract below is asked of every name in the registry.
OPTIONS: dict[str, dict[str, Any]] = {
    "color_jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
    "albumentations": {"transform": "RandomGamma", "options": {"gamma_limit": [150, 160]}},
    "torchvision": {"transform": "ColorJitter", "options": {"brightness": [0.5, 0.6]}},
}
Image = npt.NDArray[np.uint8]


@dataclass
class OnePartner:
    """Always gives the same second sample, and remembers what it was asked for."""

    pair: Pair
    px_of_class: npt.NDArray[np.int64]
    asked: list[int | None] = field(default_factory=list)

    def draw(self, rng: np.random.Generator, of_class: int | None = None) -> Pair:
        self.asked.append(of_class)
        return self.pair[0].copy(), self.pair[1].copy()


def _sample(seed: int, height: int = 24, width: int = 40) -> Pair:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
    return image, mask


@pytest.fixture
def partners() -> OnePartner:
    image, mask = _sample(99)
    return OnePartner((image, mask), np.bincount(mask.ravel(), minlength=256)[:3])


def _apply(name: str, pair: Pair, seed: int, partners: OnePartner, **options: Any) -> Pair:
    image, mask = pair[0].copy(), pair[1].copy()
    transform = AUGMENTATIONS.call(name, options or OPTIONS.get(name, {}))
    transform(image, mask, np.random.default_rng(seed), partners)
    return image, mask


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_it_is_a_function_of_the_sample_and_its_generator(name: str, partners: OnePartner) -> None:
    pair = _sample(0)
    first, again = (_apply(name, pair, 5, partners) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    others = [_apply(name, pair, seed, partners)[0] for seed in range(4)]
    assert any((other != pair[0]).any() for other in others)


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (33, 1), (31, 33)])
def test_it_works_in_a_slice_of_a_batch_and_touches_nothing_else(name: str, size: tuple[int, int]) -> None:
    images, masks = np.full((3, *size, 3), 90, np.uint8), np.ones((3, *size), np.uint8)
    partners = OnePartner((images[0] + 50, masks[0] * 2), np.array([0, 5, 5]))
    transform = AUGMENTATIONS.call(name, OPTIONS.get(name, {}))
    for seed in range(5):
        transform(images[1], masks[1], np.random.default_rng(seed), partners)
    for other in (0, 2):
        assert (images[other] == 90).all()
        assert (masks[other] == 1).all()
    assert set(np.unique(masks[1])) <= {1, 2, 255}


@pytest.mark.parametrize("name", ["color_jitter", "blur", "noise", "albumentations", "torchvision"])
def test_one_that_changes_colours_leaves_the_mask(name: str, partners: OnePartner) -> None:
    pair = _sample(0)
    np.testing.assert_array_equal(_apply(name, pair, 1, partners)[1], pair[1])


@pytest.mark.parametrize(("name", "axis"), [("flip", 1), ("vertical_flip", 0)])
def test_a_flip_mirrors_both(name: str, axis: int, partners: OnePartner) -> None:
    pair = _sample(0)
    image, mask = _apply(name, pair, 1, partners)
    np.testing.assert_array_equal(image, np.flip(pair[0], axis))
    np.testing.assert_array_equal(mask, np.flip(pair[1], axis))


def _jittered_slowly(image: Image, brightness: float, contrast: float, saturation: float) -> npt.NDArray[np.float64]:
    """The definitions one after another, in float."""
    values = image.astype(np.float64) * brightness
    mean_luma = (values @ color_jitter.LUMA).mean()
    values = mean_luma + contrast * (values - mean_luma)
    luma = (values @ color_jitter.LUMA)[..., None]
    return luma + saturation * (values - luma)


@pytest.mark.parametrize("factors", [(1.3, 1, 1), (1, 0.6, 1), (1, 1, 1.5), (0.7, 1.3, 0.4), (1.4, 0.0, 0.0)])
def test_color_jitter_is_its_three_definitions(factors: tuple[float, float, float]) -> None:
    image = _sample(0)[0]
    expected = _jittered_slowly(image, *factors).clip(0, 255)
    color_jitter.apply_factors(image, *factors, turn=0.0)
    assert np.abs(image - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "options", "factors"),
    [
        ("brightness", {"brightness": (1.3, 1.3)}, (1.3, 1, 1)),
        ("contrast", {"contrast": (0.6, 0.6)}, (1, 0.6, 1)),
        ("saturation", {"saturation": (1.4, 1.4)}, (1, 1, 1.4)),
    ],
)
def test_color_jitter_is_that_of_albumentations(
    name: str, options: dict[str, Any], factors: tuple[float, float, float]
) -> None:
    """On an image in the middle of the range, where nothing is clipped between the steps."""
    image = np.random.default_rng(0).integers(90, 150, (24, 40, 3)).astype(np.uint8)
    partners = OnePartner(_sample(0), np.ones(3, np.int64))
    one = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
    adapter = {"transform": "ColorJitter", "options": one | options}
    expected = _apply("albumentations", (image, _sample(0)[1]), 0, partners, **adapter)[0].astype(int)
    color_jitter.apply_factors(image, *factors, turn=0.0)
    assert np.abs(image - expected).max() <= 2, name


def test_hue_keeps_luma_and_greys_and_turns_full_circle() -> None:
    image = np.random.default_rng(0).integers(100, 140, (20, 20, 3)).astype(np.uint8)
    turned = image.copy()
    color_jitter.apply_factors(turned, 1, 1, 1, turn=0.3)
    assert np.abs((turned - image.astype(float)) @ color_jitter.LUMA).max() < 1
    assert np.abs(turned.astype(int) - image).max() > 5
    color_jitter.apply_factors(turned, 1, 1, 1, turn=0.7)
    assert np.abs(turned.astype(int) - image).max() <= 2
    grey = np.full((4, 4, 3), 93, np.uint8)
    color_jitter.apply_factors(grey, 1, 1, 1, turn=0.4)
    assert (grey == 93).all()


def test_hue_of_a_third_turns_red_towards_green_or_blue() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 150
    color_jitter.apply_factors(red, 1, 1, 1, turn=1 / 3)
    assert red[0, 0].argmax() != 0


def test_strengths_of_0_leave_the_image(partners: OnePartner) -> None:
    pair = _sample(0)
    np.testing.assert_array_equal(_apply("color_jitter", pair, 1, partners, brightness=0.0)[0], pair[0])
    np.testing.assert_array_equal(_apply("noise", pair, 1, partners, sigma=[0, 0])[0], pair[0])
    np.testing.assert_array_equal(_apply("blur", pair, 1, partners, sigma_px=[0, 0])[0], pair[0])


@pytest.mark.parametrize("sigma", [0.5, 1.2, 2.5])
def test_blur_is_a_gaussian(sigma: float, partners: OnePartner) -> None:
    pair = _sample(0)
    blurred = _apply("blur", pair, 0, partners, sigma_px=[sigma, sigma])[0]
    expected = ndimage.gaussian_filter(pair[0].astype(np.float64), (sigma, sigma, 0), mode="mirror")
    # The library cuts the kernel after three standard deviations.
    assert np.abs(blurred - expected).max() < 3


def test_noise_is_gaussian_of_its_strength_and_differs_between_samples(partners: OnePartner) -> None:
    grey = np.full((200, 300, 3), 128, np.uint8), np.zeros((200, 300), np.uint8)
    first, second = (_apply("noise", grey, seed, partners, sigma=[9, 9])[0].astype(float) - 128 for seed in (1, 2))
    for added in (first, second):
        assert added.mean() == pytest.approx(0, abs=0.1)
        assert added.std() == pytest.approx(9, rel=0.01)
        assert stats.kurtosis(added.ravel()) == pytest.approx(0, abs=0.1)
    for other in (second, np.roll(first, 1, axis=2), np.roll(first, 1, axis=1), np.roll(first, 1, axis=0)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_of_an_image_larger_than_the_bank(monkeypatch: pytest.MonkeyPatch, partners: OnePartner) -> None:
    bank = np.arange(-50, 51, dtype=np.int8)[:, None]
    monkeypatch.setattr(noise, "BANK_SIZE", len(bank))
    monkeypatch.setattr(noise, "_bank", lambda: bank)
    grey = np.full((10, 20, 3), 128, np.uint8), np.zeros((10, 20), np.uint8)
    values = _apply("noise", grey, 3, partners, sigma=[32, 32])[0].ravel().astype(int) - 128
    steps = np.diff(values)
    assert set(steps) == {1, -100}  # the bank one number after another, and from its end to its beginning


def test_a_bank_is_normal() -> None:
    values = noise._bank().ravel()
    assert len(values) == noise.BANK_SIZE
    assert values.mean() / noise.BANK_SIGMA == pytest.approx(0, abs=0.002)
    assert values.std() / noise.BANK_SIGMA == pytest.approx(1, abs=0.002)


def _plain(value: int, height: int = 40, width: int = 60) -> Pair:
    return np.full((height, width, 3), value, np.uint8), np.full((height, width), value, np.uint8)


def test_cutmix_pastes_one_box_with_its_labels() -> None:
    partners = OnePartner(_plain(1), np.ones(3, np.int64))
    shares, centres = [], []
    for seed in range(1500):
        image, mask = _apply("cutmix", _plain(0), seed, partners, alpha=1.0)
        np.testing.assert_array_equal(image, np.dstack([mask] * 3))
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            assert mask.sum() == len(rows) * len(columns)  # a box
            assert rows[-1] - rows[0] == len(rows) - 1
        shares.append(mask.mean())
        centres.append(mask[20, 30])
    # Share 1 - u, u uniform, of a box whose centre is uniform: its side s of a crop's side is s - s^2 / 4 within.
    side = np.sqrt(np.random.default_rng(0).random(20000))
    assert np.mean(shares) == pytest.approx(np.mean((side - side**2 / 4) ** 2), abs=0.02)
    assert partners.asked == [None] * 1500


def test_alpha_decides_how_large_boxes_are() -> None:
    partners = OnePartner(_plain(1), np.ones(3, np.int64))

    def spread(alpha: float) -> float:
        return float(np.std([_apply("cutmix", _plain(0), s, partners, alpha=alpha)[1].mean() for s in range(300)]))

    assert spread(0.1) > 1.3 * spread(1.0) > 1.6 * spread(20.0)


def test_classmix_pastes_the_pixels_of_the_chosen_class_and_no_others(partners: OnePartner) -> None:
    for seed in range(30):
        before = _sample(seed)
        image, mask = _apply("classmix", before, seed, partners)
        (chosen,) = partners.asked[-1:]
        is_pasted = partners.pair[1] == chosen
        np.testing.assert_array_equal(mask, np.where(is_pasted, chosen, before[1]))
        np.testing.assert_array_equal(image, np.where(is_pasted[..., None], partners.pair[0], before[0]))


def test_classmix_draws_by_rarity(partners: OnePartner) -> None:
    """Weights 1/6, 1/3 and 1/2 of the pixels' inverse: 1, 1/2, 1/3 -> 6, 3 and 2 elevenths."""
    partners.px_of_class = np.array([10, 20, 30])
    for seed in range(1100):
        _apply("classmix", _sample(0), seed, partners)
    assert stats.chisquare(np.bincount(partners.asked), [600, 300, 200]).pvalue > MIN_P  # type: ignore[arg-type]


def test_classmix_never_chooses_a_class_without_pixels(partners: OnePartner) -> None:
    partners.px_of_class = np.array([0, 20, 0])
    for seed in range(20):
        _apply("classmix", _sample(0), seed, partners)
    assert set(partners.asked) == {1}


@pytest.mark.parametrize(("num_classes", "num_expected"), [(1, 1), (2, 2), (3, 2), (9, 2)])
def test_classmix_leaves_one_class_of_the_partner_out(
    partners: OnePartner, num_classes: int, num_expected: int
) -> None:
    """The partner holds three."""
    for seed in range(10):
        before = _plain(77, 24, 40)
        mask = _apply("classmix", before, seed, partners, num_classes=num_classes)[1]
        pasted = set(np.unique(mask)) - {77}
        assert len(pasted) == num_expected
        assert partners.asked[-1] in pasted
        assert 255 not in pasted


def test_the_adapter_fills_empty_places_with_void(partners: OnePartner) -> None:
    pair = np.full((32, 32, 3), 9, np.uint8), np.ones((32, 32), np.uint8)
    options = {"transform": "Affine", "options": {"translate_px": [8, 8]}}
    mask = _apply("albumentations", pair, 0, partners, **options)[1]
    assert (mask[:8] == 255).all()
    assert (mask[8:, 8:] == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "RandomGama"}, "did you mean 'RandomGamma'"),
        ({"transform": "Compose"}, "albumentations has no transform of this name"),
        ({"transform": "RandomGamma", "options": {"gama_limit": 3}}, "option gama_limit: did you mean 'gamma_limit'"),
        ({"transform": "RandomGamma", "options": {"p": 0.5}}, "option p: "),
        ({"transform": "RandomGamma", "options": {"gamma_limit": "x"}}, "gamma_limit"),
        ({"transform": "RandomCrop", "options": {"height": 8, "width": 8}}, "keeps size and type"),
        ({"transform": "ToFloat"}, "keeps size and type"),
    ],
)
def test_the_adapter_refuses_unusable_transforms(options: dict[str, Any], message: str, partners: OnePartner) -> None:
    with pytest.raises(ConfigError, match="augmentation 'albumentations'") as caught:
        _apply("albumentations", _sample(0), 0, partners, **options)
    assert message in str(caught.value)


def test_the_adapter_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="option transform: is missing"):
        AUGMENTATIONS.call("albumentations", {})


def test_threads_do_not_share_the_adapters_random_numbers(
    partners: OnePartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both threads set their seed before either draws."""
    options = {"transform": "RandomGamma", "options": {"gamma_limit": [50, 200]}}
    transform = AUGMENTATIONS.call("albumentations", options)

    def apply(seed: int) -> Image:
        image, mask = _sample(0)
        transform(image, mask, np.random.default_rng(seed), partners)
        return image

    expected = [apply(seed) for seed in (1, 2)]
    both = threading.Barrier(2, timeout=20)
    compose_class = type(transform._of_thread.made)
    set_random_state = compose_class.set_random_state

    def set_and_wait(compose: object, *state: object) -> None:
        set_random_state(compose, *state)
        both.wait()

    monkeypatch.setattr(compose_class, "set_random_state", set_and_wait)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(apply, (1, 2)))
    np.testing.assert_array_equal(found, expected)


def test_successive_samples_of_the_adapter_are_even_and_unlike(partners: OnePartner) -> None:
    transform = AUGMENTATIONS.call(
        "albumentations", {"transform": "RandomBrightnessContrast", "options": {"contrast_limit": [0.0, 0.0]}}
    )
    levels = []
    for seed in range(300):
        image, mask = np.full((2, 2, 3), 100, np.uint8), np.zeros((2, 2), np.uint8)
        transform(image, mask, np.random.default_rng(seed), partners)
        levels.append(float(image[0, 0, 0]))
    assert np.std(levels) == pytest.approx(0.4 * 255 / 12**0.5, rel=0.1)  # even over +- 0.2 of the range
    assert abs(np.corrcoef(levels[:-1], levels[1:])[0, 1]) < 0.15
