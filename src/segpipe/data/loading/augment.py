"""How a training sample is made: zoom and place of its window, then the transforms that `params.yaml` names.

All draws come from the sample's own generator, so that a sample is a function of (seed, epoch, index) alone. The window
is cut from the memory map before anything is resized: only its pixels are read, and they are written once, directly
into the batch. The transforms change them there.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.choices import AUGMENTATIONS
from segpipe.classes import IGNORE_INDEX
from segpipe.config.augment import Augment
from segpipe.data.loading.transform import Pair, Transform, draw_weighted, rarity
from segpipe.data.store import Store

PADDING_COLOR = (124, 116, 104)  # ImageNet's mean, which normalisation brings near zero

# Down to half the size, bilinear interpolation still sees every pixel and takes a fifth of the time of averaging.
MIN_BILINEAR_SCALE = 0.5


@dataclass(frozen=True)
class Step:
    """A transform and how often it is applied.

    Args:
        name: of its file.
        probability: 0..1.
        transform: changes a sample in place.
    """

    name: str
    probability: float
    transform: Transform


@dataclass(frozen=True)
class Augmenter:
    """Makes training samples from a store.

    Args:
        store: the training split; partners for mixing come from it too.
        settings: the distributions to draw from.
    """

    store: Store
    settings: Augment

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """The transforms in their order."""
        choices = self.settings.transforms
        return tuple(Step(c.name, c.probability, AUGMENTATIONS.call(c.name, c.options)) for c in choices)

    @functools.cached_property
    def num_px(self) -> npt.NDArray[np.int64]:
        """Labelled pixels of each class in each sample, (num_samples, num_classes)."""
        return self.store.num_px()

    @functools.cached_property
    def px_of_class(self) -> npt.NDArray[np.int64]:
        """Labelled pixels of each class in the whole split, (num_classes,)."""
        return np.asarray(self.num_px.sum(axis=0), np.int64)

    def rehearse(self) -> None:
        """Applies every transform once, so that errors appear before the training and not in it.

        Raises:
            ConfigError: a transform cannot be applied to a crop.
        """
        image, mask = self._empty()
        rng = np.random.default_rng(0)
        self._place(0, rng, image, mask)
        for number, step in enumerate(self.steps):
            step.transform(image, mask, rng, _PartnersOf(self, number))

    def make_sample(
        self, index: int, rng: np.random.Generator, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]
    ) -> None:
        """Draws one variation of a sample.

        Args:
            index: of the sample in the store.
            rng: the sample's own generator; nothing else is random.
            image: (*settings.crop, 3) uint8 RGB, contiguous; is overwritten.
            mask: settings.crop uint8, contiguous; is overwritten, with void where the crop reaches out of the image.
        """
        self._place(index, rng, image, mask)
        self._apply(self.steps, rng, image, mask)

    def _apply(
        self,
        steps: Sequence[Step],
        rng: np.random.Generator,
        image: npt.NDArray[np.uint8],
        mask: npt.NDArray[np.uint8],
    ) -> None:
        for number, step in enumerate(steps):
            if rng.random() < step.probability:
                step.transform(image, mask, rng, _PartnersOf(self, number))

    def _empty(self) -> Pair:
        return np.empty((*self.settings.crop, 3), np.uint8), np.empty(self.settings.crop, np.uint8)

    def _place(
        self,
        index: int,
        rng: np.random.Generator,
        image: npt.NDArray[np.uint8],
        mask: npt.NDArray[np.uint8],
        of_class: int | None = None,
    ) -> None:
        """Draws zoom and place, and cuts the window out."""
        whole_image, whole_mask = self.store.read(index)
        low, high = self.settings.scale
        scale = math.exp(rng.uniform(math.log(low), math.log(high)))
        place_yx = rng.random(2).tolist()
        if of_class is None:
            of_class = self._draw_rare_class(index, rng)
        if of_class is not None:
            pixel_yx = _draw_pixel(whole_mask, of_class, rng)
            sizes = zip(place_yx, pixel_yx, whole_mask.shape, self.settings.crop, strict=True)
            place_yx = [_place_around(place, pixel, size, crop / scale) for place, pixel, size, crop in sizes]
        cut_and_resize(whole_image, whole_mask, scale, (place_yx[0], place_yx[1]), image, mask)

    def _draw_rare_class(self, index: int, rng: np.random.Generator) -> int | None:
        rare = self.settings.rare_class_crop
        if rare is None or rng.random() >= rare.probability or not self.num_px[index].any():
            return None
        is_present = self.num_px[index] > 0
        return draw_weighted(rng, np.where(is_present, rarity(self.px_of_class, rare.power), 0.0))


@dataclass(frozen=True)
class _PartnersOf:
    """Partners for the transform with this number: varied by the transforms before it, mixing ones included."""

    augmenter: Augmenter
    number: int

    @property
    def px_of_class(self) -> npt.NDArray[np.int64]:
        return self.augmenter.px_of_class

    def draw(self, rng: np.random.Generator, of_class: int | None = None) -> Pair:
        a = self.augmenter
        candidates = np.arange(len(a.store)) if of_class is None else np.flatnonzero(a.num_px[:, of_class])
        image, mask = a._empty()
        a._place(int(candidates[rng.integers(len(candidates))]), rng, image, mask, of_class)
        a._apply(a.steps[: self.number], rng, image, mask)
        return image, mask


def _draw_pixel(mask: npt.NDArray[np.uint8], index: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draws one of the pixels of a class, all equally likely: row and column."""
    is_of_class = mask == index
    rising = np.count_nonzero(is_of_class, axis=1).cumsum()
    chosen = int(rng.integers(rising[-1]))
    row = int(np.searchsorted(rising, chosen, side="right"))
    columns = np.flatnonzero(is_of_class[row])  # of one row: a list of all pixels would take 8 bytes for each
    return row, int(columns[chosen - (rising[row] - len(columns))])


def _window_length_px(size: int, length: float) -> int:
    """How many of `size` pixels a window of `length` covers: at least one, at most all."""
    return min(size, max(1, round(length)))


def _place_around(place: float, pixel: int, size: int, length: float) -> float:
    """Narrows a place to where the window holds a pixel; see `cut_and_resize` for what a place is."""
    window = _window_length_px(size, length)
    if window == size:
        return place
    num_places = size - window + 1
    first, last = max(0, pixel - window + 1), min(pixel, size - window)
    return (first + place * (last + 1 - first)) / num_places


def cut_and_resize(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    scale: float,
    place_yx: tuple[float, float],
    out_image: npt.NDArray[np.uint8],
    out_mask: npt.NDArray[np.uint8],
) -> None:
    """Writes what a crop of the resized image would hold, resizing only that part.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8.
        scale: zoom; 2 shows half the height at twice the size.
        place_yx: 0..1 each; where the window lies among all places that it can have, from the first to the last. If the
            window is larger than the image, where the image lies in the window, with void around it.
        out_image: (crop_height, crop_width, 3) uint8; is overwritten.
        out_mask: (crop_height, crop_width) uint8; is overwritten.
    """
    source: list[slice] = []
    target: list[slice] = []
    for size, crop_size, place in zip(mask.shape, out_mask.shape, place_yx, strict=True):
        if crop_size / scale <= size:
            length = _window_length_px(size, crop_size / scale)
            source.append(_slice_at(place, length, size))
            target.append(slice(0, crop_size))
        else:
            source.append(slice(0, size))
            target.append(_slice_at(place, _window_length_px(crop_size, size * scale), crop_size))
    if out_mask[target[0], target[1]].size < out_mask.size:
        cv2.rectangle(out_image, (0, 0), out_mask.shape[::-1], PADDING_COLOR, cv2.FILLED)
        out_mask.fill(IGNORE_INDEX)
    interpolation = cv2.INTER_AREA if scale < MIN_BILINEAR_SCALE else cv2.INTER_LINEAR
    for whole, out, kind in ((image, out_image, interpolation), (mask, out_mask, cv2.INTER_NEAREST_EXACT)):
        part = out[target[0], target[1]]
        cv2.resize(whole[source[0], source[1]], part.shape[1::-1], dst=part, interpolation=kind)


def _slice_at(place: float, length: int, size: int) -> slice:
    num_places = size - length + 1
    first = min(int(place * num_places), num_places - 1)
    return slice(first, first + length)
