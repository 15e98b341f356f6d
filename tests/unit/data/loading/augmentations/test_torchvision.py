"""torchvision's transforms: image and mask move together, and all draws come from the sample's generator."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms import v2

from segpipe.choices import AUGMENTATIONS
from segpipe.data.loading.own_generator import OwnGenerator
from segpipe.errors import ConfigError

Image = npt.NDArray[np.uint8]
NAMES = sorted(
    name for name in dir(v2) if isinstance(getattr(v2, name), type) and issubclass(getattr(v2, name), v2.Transform)
)
OPTIONS: dict[str, dict[str, Any]] = {
    "ColorJitter": {"brightness": 0.5, "hue": 0.1},
    "GaussianBlur": {"kernel_size": 3},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "RandomAffine": {"degrees": 30, "translate": [0.1, 0.2], "scale": [0.8, 1.2], "shear": 5},
    "RandomCrop": {"size": [24, 40], "padding": 4},
    "RandomPosterize": {"bits": 3},
    "RandomResizedCrop": {"size": [24, 40]},
    "RandomRotation": {"degrees": 30},
    "RandomSolarize": {"threshold": 128},
}
MOVING = ["ElasticTransform", "RandomAffine", "RandomCrop", "RandomPerspective", "RandomResizedCrop", "RandomRotation"]


def sample() -> tuple[Image, Image]:
    """An image whose colours say the class of each pixel: class c has the value 60 c + 20."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (6, 10)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    return np.dstack([mask * 60 + 20] * 3), mask


def apply(name: str, seed: int, **options: Any) -> tuple[Image, Image]:
    image, mask = sample()
    given = {"transform": name, "options": {**OPTIONS.get(name, {}), **options}}
    AUGMENTATIONS.call("torchvision", given)(image, mask, np.random.default_rng(seed), None)
    return image, mask


@pytest.mark.parametrize("name", NAMES)
def test_what_a_transform_draws_comes_from_the_samples_generator_alone(name: str) -> None:
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are deprecated
        try:
            first, again = apply(name, 1), apply(name, 1)
        except ConfigError:
            first = again = (np.empty(0), np.empty(0))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("name", MOVING)
def test_image_and_mask_move_together_and_empty_places_are_void(name: str) -> None:
    for seed in range(3):
        image, mask = apply(name, seed, interpolation="nearest") if name != "RandomCrop" else apply(name, seed)
        assert (mask != sample()[1]).any()
        is_labelled = mask != 255
        # The image's empty places are black; rounding may take a neighbour at the border of a shape.
        agree = np.where(is_labelled, mask * 60 + 20, 0) == image[..., 0]
        assert agree.mean() > 0.97
        assert set(np.unique(mask)) <= {0, 1, 2, 3, 255}


@pytest.mark.parametrize(("name", "axis"), [("RandomHorizontalFlip", 1), ("RandomVerticalFlip", 0)])
def test_a_flip_always_mirrors_both(name: str, axis: int) -> None:
    for seed in range(4):
        image, mask = apply(name, seed)
        np.testing.assert_array_equal(image, np.flip(sample()[0], axis))
        np.testing.assert_array_equal(mask, np.flip(sample()[1], axis))


def test_other_seeds_give_other_samples_with_the_spread_of_the_library() -> None:
    angles = []
    for seed in range(200):
        with OwnGenerator(seed):
            angles.append(v2.RandomRotation(30).make_params([])["angle"])
    assert len(set(angles)) == 200
    assert np.mean(angles) == pytest.approx(0, abs=4)
    assert np.std(angles) == pytest.approx(60 / 12**0.5, rel=0.1)


def test_threads_do_not_share_random_numbers() -> None:
    """Both threads are in their context before either draws; a third draws from torch's own generator."""
    alone = [apply("ElasticTransform", seed)[0] for seed in (1, 2)]
    together = threading.Barrier(2, timeout=20)
    transform = AUGMENTATIONS.call("torchvision", {"transform": "ElasticTransform"})

    def draw(seed: int) -> Image:
        image, mask = sample()
        together.wait()
        for _ in range(5):  # many draws, so that the threads take turns
            image, mask = sample()
            transform(image, mask, np.random.default_rng(seed), None)
        return image

    state = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(draw, (1, 2)))
    np.testing.assert_array_equal(found, alone)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_like_a_tensor_is_drawn_from_the_generator_too() -> None:
    state = torch.get_rng_state()
    with OwnGenerator(3):
        first = torch.randn_like(torch.empty(5))
    with OwnGenerator(3):
        again = torch.randn_like(torch.empty(5))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "RandomRotatoin"}, "did you mean 'RandomRotation'"),
        ({"transform": "InterpolationMode"}, "no transform of this name"),
        ({"transform": "RandomRotation", "options": {"degree": 3}}, "option degree: did you mean 'degrees'"),
        ({"transform": "RandomHorizontalFlip", "options": {"p": 0.5}}, "option p: "),
        ({"transform": "RandomRotation", "options": {"degrees": -3}}, "degrees"),
        ({"transform": "RandomRotation", "options": {"degrees": 3, "interpolation": "best"}}, "best"),
        ({"transform": "RandAugment"}, "Mask"),
        ({"transform": "Compose"}, "transforms"),
        ({"transform": "Pad", "options": {"padding": 2}}, "keeps size and type"),
        ({"transform": "Grayscale"}, "keeps size and type"),
        ({"transform": "ToPILImage"}, "keeps size and type"),
        ({"transform": "ConvertImageDtype"}, "keeps size and type"),
    ],
)
def test_unusable_transforms_are_refused(options: dict[str, Any], message: str) -> None:
    image, mask = sample()
    with pytest.raises(ConfigError, match="augmentation 'torchvision'") as caught:
        AUGMENTATIONS.call("torchvision", options)(image, mask, np.random.default_rng(0), None)
    assert message in str(caught.value)


def test_a_name_is_needed() -> None:
    with pytest.raises(ConfigError, match="option transform: is missing"):
        AUGMENTATIONS.call("torchvision", {})
