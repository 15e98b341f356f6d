"""The 95% interval of a score, or of the difference of two models' scores, by the bootstrap over whole sequences.

Frames of one video are alike: a model with high scores on one frame has high scores on its neighbours. So the bootstrap
never resamples single frames, but units that are independent of each other: a group (sequence), or a long block of it
if there are few groups. Both models are scored on the same resamples, so what is hard or easy for both does not change
their difference.

The interval is the value plus and minus Student's t times a standard error. The usual percentiles of the resamples are
too narrow for few units: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4),
2015 (with two equal models and four groups, all groups favour the same model in one case of eight). The error is the
larger of two:

- the bootstrap's, times sqrt(n / (n - 1)), since it divides by n where a sample's variance divides by n - 1
  (Hesterberg's "narrowness bias");
- the jackknife's, sqrt((n - 1) / n * sum_i (v_i - mean v)^2) with v_i the value without unit i: Efron and Tibshirani,
  "An introduction to the bootstrap", 1993, chapter 11. If a few units hold most of a class, or are much longer than
  others, the bootstrap's error is too small and this one is not: MacKinnon, Nielsen and Webb, "Fast and reliable
  jackknife and bootstrap methods for cluster-robust inference", Journal of Applied Econometrics 38(5), 2023.

n is the number of units with labelled pixels (of the class, for the difference of a class), and t has n - 1 degrees of
freedom. `benchmarks/gate_calibration.py` measures how often each method calls one of two equal models better.

Layout: I images, U units, C classes, M models, R resamples, K scores, V any number of values.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

from segpipe.metrics.parts.counts import NUM_IMAGES_AT_ONCE, count, count_in_each, iou_of_sums, mean_over_classes
from segpipe.metrics.parts.image_counts import ImageCounts

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 2_000
SEED = 0
UPPER_QUANTILE = 0.975  # of a two-sided 95% interval
FEW_UNITS = 5  # pages and decisions warn of fewer
MAX_BLOCKS_OF_A_VIDEO = 10


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of scores, with its two-sided 95% interval.

    Attributes:
        value: on the images themselves, not resampled; NaN for a class without labelled pixels.
        low: lower bound; NaN if fewer than two units have labelled pixels for the value.
        high: upper bound, NaN in the same case.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """The units for resampling.

    Attributes:
        index: (I,) the unit of each image, 0..num_units - 1.
        kind: whether a unit is a whole group or a block of one.
        num_units: number of units.
    """

    index: Counts
    kind: Literal["group", "block"]
    num_units: int


@dataclass(frozen=True)
class Comparison:
    """The scores of challenger and champion on the same images, and their differences (challenger minus champion).

    Attributes:
        delta: difference of mean IoU.
        probability: probability that the challenger is better, 0..1, by the same Student distribution as the interval:
            it is above 0.975 exactly if `delta.low` > 0. NaN with fewer than two units.
        class_deltas: difference of IoU of each class.
        challenger: mean IoU of the challenger.
        champion: mean IoU of the champion.
        kind: whether a unit is a group or a block of one.
        num_units: units with at least one labelled pixel.
    """

    delta: Estimate
    probability: float
    class_deltas: tuple[Estimate, ...]
    challenger: Estimate
    champion: Estimate
    kind: Literal["group", "block"]
    num_units: int


def bundle(groups: Sequence[str], block_length: int | None = None) -> Units:
    """Divides images into the units to resample.

    If there are two groups or more, they are the units. A single video is cut into contiguous blocks ("batch means").
    Their number is the square root of its length, so longer videos have longer and more blocks (Flegal and Jones,
    "Batch means and spectral variance estimators in Markov chain Monte Carlo", Annals of Statistics 38(2), 2010). It is
    at most 10: longer blocks depend less on each other, and more than 8 to 10 blocks bring little (Schmeiser, "Batch
    size effects in the analysis of simulation output", Operations Research 30(3), 1982).

    An interval from groups holds for other videos, one from blocks only for other parts of the same videos. Blocks must
    be several times as long as frames stay alike: in the benchmark, one of two equal models is called better in 2% of
    the cases with blocks seven times that long, in 4% with three times, in 9% with blocks just that long.

    Args:
        groups: the group of each image; images of a group in their order.
        block_length: cuts every group into contiguous blocks of at least this many images (a shorter group is one
            block), for data whose groups are few and long. Choose it longer than frames stay alike. None: as above.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if block_length is None and len(names) > 1:
        return Units(index.astype(np.int64), "group", len(names))
    blocks: list[Counts] = []
    for group in range(len(names)):
        members = np.flatnonzero(index == group)
        num_images = len(members)
        by_root = min(MAX_BLOCKS_OF_A_VIDEO, isqrt(num_images))
        num_blocks = by_root if block_length is None else max(1, num_images // block_length)
        blocks += np.array_split(members, num_blocks)
    block_index = np.empty(len(groups), np.int64)
    for unit, members in enumerate(blocks):
        block_index[members] = unit
    return Units(block_index, "block", len(blocks))


def estimate_iou(confusions: ImageCounts, units: Units) -> tuple[Estimate, tuple[Estimate, ...]]:
    """Estimates a model's mean IoU, as `mean_iou` defines it, and the IoU of each class, on all images together.

    Args:
        confusions: (truth, predicted) of each image.
        units: the units of these images.

    Returns:
        The mean IoU, and the IoU of each class; bounds are clipped to 0 and 1. NaN where no pixel is labelled.
    """

    def list_scores(iou_VMC: Floats) -> Floats:
        iou_VC = iou_VMC[:, 0]
        return np.concatenate([mean_over_classes(iou_VC)[:, None], iou_VC], axis=1)

    mean, *classes = (spread.estimate(lowest=0.0) for spread in _resample([confusions], units, list_scores, 1))
    return mean, tuple(classes)


def compare(challenger_confusions: ImageCounts, champion_confusions: ImageCounts, units: Units) -> Comparison:
    """Compares two models on the same images, in the same 2,000 resamples of whole units, always from the same seed.

    The score of a resample is computed from its summed matrices, as in `mean_iou`: classes without labelled pixels in a
    resample do not count there. Bounds are clipped to -1 and 1. If nothing varies, as with two equal models, both
    bounds are the value, and the probability is 0, 1, or 0.5 for no difference.

    Args:
        challenger_confusions: (truth, predicted) of each image.
        champion_confusions: of the same images in the same order.
        units: the units of these images.

    Raises:
        ValueError: the two were counted on different labels.
    """
    if not _have_same_truth(challenger_confusions, champion_confusions):
        raise ValueError("challenger and champion were counted on different labels: evaluate both on the same images")

    def list_scores(iou_VMC: Floats) -> Floats:
        mean_VM = mean_over_classes(iou_VMC)
        delta_V1 = mean_VM[:, :1] - mean_VM[:, 1:]
        return np.concatenate([delta_V1, mean_VM, iou_VMC[:, 0] - iou_VMC[:, 1]], axis=1)

    models = [challenger_confusions, champion_confusions]
    delta, challenger, champion, *classes = _resample(models, units, list_scores, 3)
    return Comparison(
        delta=delta.estimate(lowest=-1.0),
        probability=delta.probability_above_zero(),
        class_deltas=tuple(spread.estimate(lowest=-1.0) for spread in classes),
        challenger=challenger.estimate(lowest=0.0),
        champion=champion.estimate(lowest=0.0),
        kind=units.kind,
        num_units=delta.num_units,
    )


def _have_same_truth(one: ImageCounts, other: ImageCounts) -> bool:
    sums = []
    for counts in (one, other):
        num_classes = counts.shape[0]
        place = counts.image * num_classes + counts.along("truth")
        first = np.flatnonzero(np.diff(place, prepend=-1))
        sums.append((counts.num_images, place[first].tobytes(), np.add.reduceat(counts.pixels, first).tobytes()))
    return sums[0] == sums[1]


@dataclass(frozen=True)
class _Spread:
    """A value and how much it varies.

    Attributes:
        value: of all units.
        num_units: units with labelled pixels for the value.
        error: the standard error; NaN with fewer than two such units.
    """

    value: float
    num_units: int
    error: float

    def estimate(self, lowest: float) -> Estimate:
        """Gives the value with its interval, clipped to lowest and 1."""
        if self.num_units < 2:
            return Estimate(self.value, np.nan, np.nan)
        margin = float(stdtrit(self.num_units - 1, UPPER_QUANTILE)) * self.error
        return Estimate(self.value, max(self.value - margin, lowest), min(self.value + margin, 1.0))

    def probability_above_zero(self) -> float:
        """Gives the probability that the value is above 0, by the distribution of its interval."""
        if self.num_units < 2:
            return np.nan
        if self.error == 0:
            return float(np.heaviside(self.value, 0.5))
        return float(stdtr(self.num_units - 1, self.value / self.error))


def _resample(
    models: Sequence[ImageCounts], units: Units, list_scores: Callable[[Floats], Floats], num_means: int
) -> list[_Spread]:
    """Gives scores K of all units, and how they vary when units are drawn or left out.

    An IoU needs only hit, truth and predicted px of each class, M x 3 x C numbers a unit. Units are taken in blocks:
    only a block's numbers, and how often each resample draws its units, are in memory at once. So time and memory grow
    linearly with the number of units.

    Args:
        models: (truth, predicted) of each image.
        units: of the images.
        list_scores: gives the scores (V, K) of (V, M, C) IoU: first `num_means` means, then one value of each class.
        num_means: number of scores for which each labelled unit counts; for a class those with pixels of it count.
    """
    merged = _merge_labelled(models, units)
    num_units = merged[0].num_images
    total_M3C = np.stack([_sum_classes(model) for model in merged])
    values_K = list_scores(iou_of_sums(total_M3C)[None])[0]
    drawn = np.zeros((NUM_RESAMPLES, total_M3C.size))
    # Sums over the units of d and d^2, d = the value without the unit minus that with all.
    moments_2K, num_used_K = np.zeros((2, len(values_K))), np.zeros(len(values_K), np.int64)
    blocks = zip(*(count_in_each(model) for model in merged), strict=True)
    for times_RU, block in zip(_draw(num_units), blocks, strict=True):
        sums_UM3C = np.stack(block, axis=1)
        drawn += times_RU @ sums_UM3C.reshape(len(sums_UM3C), -1)
        has_class_UC = sums_UM3C[:, 0, 1] > 0
        is_used_UK = np.concatenate([np.ones((len(sums_UM3C), num_means), np.bool_), has_class_UC], axis=1)
        change_UK = list_scores(iou_of_sums(total_M3C - sums_UM3C)) - values_K
        change_UK[~is_used_UK | np.isnan(change_UK)] = 0  # NaN: only this unit has the class; no interval anyway
        moments_2K += change_UK.sum(axis=0), np.square(change_UK).sum(axis=0)
        num_used_K += is_used_UK.sum(axis=0)
    resampled_RK = list_scores(iou_of_sums(drawn.reshape(NUM_RESAMPLES, *total_M3C.shape)))
    return [
        _Spread(float(value), int(num), _standard_error(resampled_R, moments, int(num)))
        for value, num, resampled_R, moments in zip(values_K, num_used_K, resampled_RK.T, moments_2K.T, strict=True)
    ]


def _merge_labelled(models: Sequence[ImageCounts], units: Units) -> list[ImageCounts]:
    """Adds up the images of each unit; units without a labelled pixel are left out."""
    merged = [model.merge(units.index, units.num_units) for model in models]
    is_labelled_U = np.bincount(merged[0].image, minlength=units.num_units) > 0
    return merged if is_labelled_U.all() else [model.take(np.flatnonzero(is_labelled_U)) for model in merged]


def _sum_classes(confusions: ImageCounts) -> Floats:
    """Gives (3, C): hit, truth and predicted px of all images. Floats hold such counts exactly."""
    counts = count(confusions)
    return np.stack([counts.hit, counts.truth, counts.predicted])


def _draw(num_units: int) -> Iterator[Floats]:
    """Draws units with replacement, as many as there are; gives (R, B) how often each resample has the next B units.

    First, how many of a resample's draws fall into each block of units (multinomial), then which units these are.
    """
    if num_units == 0:  # nothing but void, as in a test set whose labels are kept secret
        return
    generator = np.random.default_rng(SEED)
    begins = range(0, num_units, NUM_IMAGES_AT_ONCE)
    sizes = np.array([min(NUM_IMAGES_AT_ONCE, num_units - begin) for begin in begins])
    num_draws_RB = generator.multinomial(num_units, sizes / num_units, NUM_RESAMPLES)
    for size, num_draws_R in zip(sizes.tolist(), num_draws_RB.T, strict=True):
        unit = generator.integers(0, size, int(num_draws_R.sum()))
        unit += np.repeat(np.arange(NUM_RESAMPLES) * size, num_draws_R)
        times = np.bincount(unit, minlength=NUM_RESAMPLES * size)
        yield times.reshape(NUM_RESAMPLES, size).astype(np.float64)


def _standard_error(resampled_R: Floats, moments_2: Floats, num_units: int) -> float:
    """Gives the larger of the bootstrap's and the jackknife's standard error, from the units with labelled pixels."""
    if num_units < 2:
        return np.nan
    bootstrap = float(np.nanstd(resampled_R, ddof=1)) * sqrt(num_units / (num_units - 1))
    total, total_of_squares = moments_2.tolist()
    variance = max(0.0, total_of_squares - total**2 / num_units) * (num_units - 1) / num_units
    return max(bootstrap, sqrt(variance))
