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

Layout: I images, U units, C classes, M models, V values: for all units, without each unit in turn, for each resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NUM_RESAMPLES = 2_000
SEED = 0
UPPER_QUANTILE = 0.975  # of a two-sided 95% interval
FEW_UNITS = 5  # pages and decisions warn of fewer
MAX_BLOCKS_OF_A_VIDEO = 10
MAX_DRAWS_AT_ONCE = 1_000_000


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


def estimate_mean_iou(confusions: Counts, units: Units) -> Estimate:
    """Estimates a model's mean IoU, as `mean_iou` defines it, on all images together.

    Args:
        confusions: (I, C, C) pixel counts of each image, rows are truth; at least one pixel.
        units: the units of these images.

    Returns:
        The mean IoU; its bounds are clipped to 0 and 1.
    """
    sums_MU3C = _sum_labelled_units([confusions], units)
    mean_iou_V = _mean_over_classes(_resample_iou(sums_MU3C)[0])
    return _estimate(mean_iou_V, np.ones(sums_MU3C.shape[1], np.bool_), lowest=0.0)


def compare(challenger_confusions: Counts, champion_confusions: Counts, units: Units) -> Comparison:
    """Compares two models on the same images, in the same 2,000 resamples of whole units, always from the same seed.

    The score of a resample is computed from its summed matrices, as in `mean_iou`: classes without labelled pixels in a
    resample do not count there. Bounds are clipped to -1 and 1. If nothing varies, as with two equal models, both
    bounds are the value, and the probability is 0, 1, or 0.5 for no difference.

    Args:
        challenger_confusions: (I, C, C) pixel counts of each image, rows are truth; at least one pixel.
        champion_confusions: (I, C, C) of the same images in the same order.
        units: the units of these images.

    Raises:
        ValueError: the two were counted on different labels.
    """
    if not np.array_equal(challenger_confusions.sum(axis=2), champion_confusions.sum(axis=2)):
        raise ValueError("challenger and champion were counted on different labels: evaluate both on the same images")
    sums_MU3C = _sum_labelled_units([challenger_confusions, champion_confusions], units)
    iou_MVC = _resample_iou(sums_MU3C)
    challenger_V, champion_V = _mean_over_classes(iou_MVC)
    delta_V = challenger_V - champion_V
    class_deltas_CV = (iou_MVC[0] - iou_MVC[1]).T
    is_labelled_U = np.ones(sums_MU3C.shape[1], np.bool_)
    has_class_CU = sums_MU3C[0, :, 1].T > 0
    return Comparison(
        delta=_estimate(delta_V, is_labelled_U, lowest=-1.0),
        probability=_probability_above_zero(delta_V, is_labelled_U),
        class_deltas=tuple(
            _estimate(values_V, has_class_U, lowest=-1.0)
            for values_V, has_class_U in zip(class_deltas_CV, has_class_CU, strict=True)
        ),
        challenger=_estimate(challenger_V, is_labelled_U, lowest=0.0),
        champion=_estimate(champion_V, is_labelled_U, lowest=0.0),
        kind=units.kind,
        num_units=len(is_labelled_U),
    )


def _sum_labelled_units(models: Sequence[Counts], units: Units) -> Floats:
    """Gives (M, U, 3, C) px: hit, truth and predicted of each unit that has labelled pixels.

    An IoU needs no more, and with 150 classes this is a fiftieth of the matrices. Floats hold such counts exactly.
    """
    num_classes = models[0].shape[1]
    sums_MU3C = np.zeros((len(models), units.num_units, 3, num_classes))
    for sums_U3C, confusions in zip(sums_MU3C, models, strict=True):
        counts = (confusions.diagonal(axis1=1, axis2=2), confusions.sum(axis=2), confusions.sum(axis=1))
        np.add.at(sums_U3C, units.index, np.stack(counts, axis=1))
    labelled: Floats = sums_MU3C[:, sums_MU3C[0, :, 1].any(axis=1)]
    return labelled


def _resample_iou(sums_MU3C: Floats) -> Floats:
    """Gives (M, 1 + U + resamples, C) IoU: of all units, without each unit in turn, of each resample; NaN: no pixel."""
    num_models, num_units, _, num_classes = sums_MU3C.shape
    table = sums_MU3C.transpose(1, 0, 2, 3).reshape(num_units, -1)
    total = table.sum(axis=0, keepdims=True)
    sums = [total, total - table]
    generator = np.random.default_rng(SEED)
    chunk = max(1, MAX_DRAWS_AT_ONCE // num_units)
    for begin in range(0, NUM_RESAMPLES, chunk):
        num = min(chunk, NUM_RESAMPLES - begin)
        drawn = generator.integers(0, num_units, (num, num_units)) + num_units * np.arange(num)[:, None]
        times = np.bincount(drawn.ravel(), minlength=num * num_units).reshape(num, num_units)
        sums.append(times.astype(np.float64) @ table)
    hit, truth, predicted = np.concatenate(sums).reshape(-1, num_models, 3, num_classes).transpose(2, 1, 0, 3)
    iou_MVC = np.full(hit.shape, np.nan)
    np.divide(hit, truth + predicted - hit, out=iou_MVC, where=truth > 0)
    return iou_MVC


def _mean_over_classes(iou: Floats) -> Floats:
    """Gives (...) the mean of (..., C) over the classes with labelled pixels; NaN if there are none."""
    num_present = np.count_nonzero(~np.isnan(iou), axis=-1)
    mean = np.full(num_present.shape, np.nan)
    np.divide(np.nansum(iou, axis=-1), num_present, out=mean, where=num_present > 0)
    return mean


def _standard_error(values_V: Floats, is_used_U: Flags) -> float:
    """Gives the larger of the bootstrap's and the jackknife's standard error, from the units with labelled pixels."""
    num_units = np.count_nonzero(is_used_U)
    without_one, resampled = np.split(values_V[1:], [len(is_used_U)])
    bootstrap = float(np.nanstd(resampled, ddof=1)) * sqrt(num_units / (num_units - 1))
    jackknife = float(np.std(without_one[is_used_U])) * sqrt(num_units - 1)
    return max(bootstrap, jackknife)


def _estimate(values_V: Floats, is_used_U: Flags, lowest: float) -> Estimate:
    """Gives the first value with its interval, clipped to lowest and 1."""
    value = float(values_V[0])
    num_units = np.count_nonzero(is_used_U)
    if num_units < 2:
        return Estimate(value, np.nan, np.nan)
    margin = float(stdtrit(num_units - 1, UPPER_QUANTILE)) * _standard_error(values_V, is_used_U)
    return Estimate(value, max(value - margin, lowest), min(value + margin, 1.0))


def _probability_above_zero(values_V: Floats, is_used_U: Flags) -> float:
    """Gives the probability that the value is above 0, by the distribution of its interval."""
    num_units = np.count_nonzero(is_used_U)
    if num_units < 2:
        return np.nan
    error = _standard_error(values_V, is_used_U)
    if error == 0:
        return float(np.heaviside(values_V[0], 0.5))
    return float(stdtr(num_units - 1, values_V[0] / error))
