"""What an augmentation is, and what it is given: random numbers and second samples."""

from typing import Annotated, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


class Partners(Protocol):
    """Second samples for a transform that mixes two."""

    @property
    def px_of_class(self) -> npt.NDArray[np.int64]:
        """Gives the labelled pixels of each class in the whole training split, (num_classes,)."""

    def draw(self, rng: np.random.Generator, of_class: int | None = None) -> Pair:
        """Draws another training sample, cropped, and varied by the transforms that come before.

        Args:
            rng: the generator of the sample that it is mixed into.
            of_class: only samples that hold this class, and a crop that shows some of it; it must occur in the split.

        Returns:
            (height, width, 3) image and (height, width) mask, uint8, of the crop's size; the caller may change them.
        """


class Transform(Protocol):
    """Varies a cropped sample."""

    def __call__(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        """Changes image and mask in place.

        Args:
            image: (height, width, 3) uint8 RGB.
            mask: (height, width) uint8 class indices, void = 255.
            rng: the sample's own generator; nothing else is random.
            partners: gives second samples.
        """


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound must not exceed the upper one")
    return bounds


NonNegative = Annotated[float, Field(ge=0)]
# A list in YAML, hence not strict.
Bounds = Annotated[tuple[NonNegative, NonNegative], Field(strict=False), AfterValidator(_check_order)]


def draw_weighted(rng: np.random.Generator, weights: npt.NDArray[np.float64]) -> int:
    """Draws an index with a probability in proportion to its weight.

    Args:
        rng: gives one number.
        weights: (num_choices,) from 0 up, not all 0.
    """
    # Not `rng.choice`: that takes thirty times as long.
    rising = weights.cumsum()
    return int(np.searchsorted(rising, rng.random() * rising[-1], side="right"))


def rarity(px_of_class: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """Weighs classes by their inverse frequency.

    Args:
        px_of_class: (num_classes,) pixels of each class in the training split.
        power: 0 treats all classes alike, 1 takes the full inverse frequency.

    Returns:
        (num_classes,) weights; 0 for a class that does not occur.
    """
    occurs = px_of_class > 0
    weights = np.zeros(len(px_of_class))
    weights[occurs] = (px_of_class.sum() / px_of_class[occurs]) ** power
    return weights
