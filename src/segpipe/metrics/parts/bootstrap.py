"""How far a score, or the difference of two models' scores, can be trusted: the bootstrap over whole sequences.

Frames of one video are alike: a model that is lucky on one is lucky on its neighbours. So what is drawn again is never
the frame but the unit that is independent of the others: a group (sequence), or a long block of it where groups are
few. Both models are scored on the same draws, which takes out of their difference whatever is hard or easy for both.

The interval is the value plus and minus Student's t times a standard error. The usual percentiles of the resamples are
too narrow where units are few: Hesterberg, "What teachers should know about the bootstrap", The American Statistician
69(4), 2015 (of four groups all favour the same one of two equal models in one case of eight). The error is the larger
of two:

- the bootstrap's, times sqrt(n / (n - 1)), since it divides by n where a sample's variance divides by n - 1
  (Hesterberg's "narrowness bias");
- the jackknife's, sqrt((n - 1) / n * sum_i (v_i - mean v)^2) with v_i the value without unit i: Efron and Tibshirani,
  "An introduction to the bootstrap", 1993, chapter 11. Where a few units hold most of a class, or are much longer
  than others, the bootstrap's is too small and this one is not: MacKinnon, Nielsen and Webb, "Fast and reliable
  jackknife and bootstrap methods for cluster-robust inference", Journal of Applied Econometrics 38(5), 2023.

n counts the units that have labelled pixels (of the class, for a class's difference), and t has n - 1 degrees of
freedom. `benchmarks/gate_calibration.py` shows how often each way calls one of two equal models better.

Layout: I images, U units, C classes, M models, V values: of all units, of all but each one, of each resample.
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
FEW_UNITS = 5  # fewer are little evidence, and it is said
MAX_BLOCKS_OF_A_VIDEO = 10
MAX_DRAWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of scores, with its two-sided 95% interval.

    Attributes:
        value: on the images as they are; NaN for a class without labelled pixels.
        low: lower bound; NaN where fewer than two units speak about the value.
        high: upper bound; NaN likewise.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """How images are bundled for resampling.

    Attributes:
        index: (I,) the unit of each image, 0..num_units - 1.
        kind: whether a unit is a whole group or a block of one.
        num_units: how many there are.
    """

    index: Counts
    kind: Literal["group", "block"]
    num_units: int


@dataclass(frozen=True)
class Comparison:
    """What the same images say of challenger minus champion.

    Attributes:
        delta: difference of mean IoU.
        probability: that the challenger is better, 0..1, by the same Student distribution as the interval: it is above
            0.975 exactly if `delta.low` > 0. NaN with fewer than two units.
        class_deltas: difference of IoU of each class.
        challenger: mean IoU.
        champion: mean IoU.
        kind: what a unit is.
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
    """Bundles images into the units to resample.

    Two groups or more are the units. A single video is cut into contiguous blocks instead ("batch means"): as many as
    the root of its length, so that blocks grow both longer and more numerous with it (Flegal and Jones, "Batch means
    and spectral variance estimators in Markov chain Monte Carlo", Annals of Statistics 38(2), 2010), but at most 10:
    longer blocks depend less on each other, and beyond 8 to 10 of them there is little to gain (Schmeiser, "Batch size
    effects in the analysis of simulation output", Operations Research 30(3), 1982).

    Groups speak of other videos, blocks only of other stretches of these. Blocks are honest where they are several
    times as long as frames stay alike: in the benchmark one of two equal models is called better in 2% of the cases
    with blocks seven times that long, in 4% with three times, in 9% with blocks just that long.

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
        units: of these images.

    Returns:
        Its bounds stop at 0 and 1.
    """
    sums_MU3C = _sum_labelled_units([confusions], units)
    mean_iou_V = _mean_over_classes(_resample_iou(sums_MU3C)[0])
    return _estimate(mean_iou_V, np.ones(sums_MU3C.shape[1], np.bool_), lowest=0.0)


def compare(challenger_confusions: Counts, champion_confusions: Counts, units: Units) -> Comparison:
    """Compares two models on the same images, in the same 2,000 resamples of whole units, always from the same seed.

    The score of a resample is that of its summed matrices, as `mean_iou` defines it: classes that have no labelled
    pixel in a resample do not count there. Bounds stop at the largest difference that exists. Where nothing varies, as
    with two equal models, both bounds are the value, and the probability is 0, 1, or 0.5 for no difference.

    Args:
        challenger_confusions: (I, C, C) pixel counts of each image, rows are truth; at least one pixel.
        champion_confusions: (I, C, C) of the same images in the same order.
        units: of these images.

    Raises:
        ValueError: the two do not speak of the same labels.
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

    All that an IoU needs: with 150 classes a fiftieth of the matrices. Floats hold such counts exactly.
    """
    num_classes = models[0].shape[1]
    sums_MU3C = np.zeros((len(models), units.num_units, 3, num_classes))
    for sums_U3C, confusions in zip(sums_MU3C, models, strict=True):
        counts = (confusions.diagonal(axis1=1, axis2=2), confusions.sum(axis=2), confusions.sum(axis=1))
        np.add.at(sums_U3C, units.index, np.stack(counts, axis=1))
    labelled: Floats = sums_MU3C[:, sums_MU3C[0, :, 1].any(axis=1)]
    return labelled


def _resample_iou(sums_MU3C: Floats) -> Floats:
    """Gives (M, 1 + U + resamples, C) IoU of all units, of all but each one, of each resample; NaN without a pixel."""
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
    """Gives (...) the mean of (..., C) over the classes that have labelled pixels; NaN without any."""
    num_present = np.count_nonzero(~np.isnan(iou), axis=-1)
    mean = np.full(num_present.shape, np.nan)
    np.divide(np.nansum(iou, axis=-1), num_present, out=mean, where=num_present > 0)
    return mean


def _standard_error(values_V: Floats, speaks_U: Flags) -> float:
    """Gives the larger of the bootstrap's and the jackknife's standard error, by the units that speak of the value."""
    num_units = np.count_nonzero(speaks_U)
    without_one, resampled = np.split(values_V[1:], [len(speaks_U)])
    bootstrap = float(np.nanstd(resampled, ddof=1)) * sqrt(num_units / (num_units - 1))
    jackknife = float(np.std(without_one[speaks_U])) * sqrt(num_units - 1)
    return max(bootstrap, jackknife)


def _estimate(values_V: Floats, speaks_U: Flags, lowest: float) -> Estimate:
    """Gives the first value with its interval, which stops at lowest and 1."""
    value = float(values_V[0])
    num_units = np.count_nonzero(speaks_U)
    if num_units < 2:
        return Estimate(value, np.nan, np.nan)
    margin = float(stdtrit(num_units - 1, UPPER_QUANTILE)) * _standard_error(values_V, speaks_U)
    return Estimate(value, max(value - margin, lowest), min(value + margin, 1.0))


def _probability_above_zero(values_V: Floats, speaks_U: Flags) -> float:
    """Gives the probability that the value is > 0, by the distribution of its interval."""
    num_units = np.count_nonzero(speaks_U)
    if num_units < 2:
        return np.nan
    error = _standard_error(values_V, speaks_U)
    if error == 0:
        return float(np.heaviside(values_V[0], 0.5))
    return float(stdtr(num_units - 1, values_V[0] / error))
