"""How often the gate calls one of two equally good models better, and how often it detects a real gain.

Pairs of models are simulated on videos whose frames are alike. In each video, each class has a difficulty that both
models share and one for each model; each frame adds noise. The probability of a hit follows on the logistic scale;
missed pixels go to the other classes by their frequency. There are eleven classes with 28% to 0.3% of the pixels. Both
models' values come from the same distributions, so neither model is better, unless a gain is added.

"Better" means a lower bound above zero; its rate for equal models should be at most 2.5%. The table has segpipe's
`compare`, the percentiles of the paired bootstrap over the same units, and both over single frames.

    OMP_NUM_THREADS=1 python benchmarks/gate_calibration.py --pairs 1000
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.bootstrap import NUM_RESAMPLES, Units, bundle, compare
from segpipe.metrics.parts.counts import confusions_of

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FREQUENCY = np.array([0.28, 0.23, 0.16, 0.11, 0.09, 0.05, 0.04, 0.02, 0.012, 0.005, 0.003])
HIT_LOGIT = np.array([3.5, 3.2, 2.8, 2.2, 2.0, 1.5, 1.2, 0.8, 0.5, 0.2, 0.0])
NUM_CLASSES, NUM_RARE, FRAME_PX = len(FREQUENCY), 3, 172_800
SHARED_SPREAD, MODEL_SPREAD, FRAME_SPREAD, LENGTH_SPREAD = 0.6, 0.4, 0.4, 0.8
THREE_POINTS = 0.18  # added to the challenger's logits: about 3 points of mean IoU
NUM_GROUPS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Setting:
    """A kind of evaluation set, and how much better the challenger is.

    Attributes:
        name: of the row.
        num_groups: videos.
        num_frames: of each video; the median where lengths differ.
        gain: added to the challenger's logits.
        rare_share: share of the videos in which each of the three rarest classes occurs.
        is_uneven: lengths of videos differ log-normally.
        likeness_frames: number of frames after which a video's difficulty changes; None: it lasts the whole video.
        block_length: as in `bundle`.
    """

    name: str
    num_groups: int
    num_frames: int = 6
    gain: float = 0.0
    rare_share: float = 1.0
    is_uneven: bool = False
    likeness_frames: float | None = None
    block_length: int | None = None


EVEN = Setting("equal videos", 8)
RARE = Setting("rare classes in 15% of the videos", 8, rare_share=0.15)
UNEVEN = Setting("rare classes in 30%, lengths differ", 8, rare_share=0.3, is_uneven=True)
ONE_VIDEO = [Setting("one video of 100 frames", 1, 100, likeness_frames=frames) for frames in (1.0, 3.0, 10.0)]
FEW_LONG = [
    Setting("four videos of 60 frames, blocks of 20", 4, 60, likeness_frames=frames, block_length=20)
    for frames in (1.0, 3.0, 10.0)
]


@dataclass(frozen=True)
class Pair:
    """Two models on one evaluation set: (I, C, C) confusion matrices, and the units of the images."""

    challenger: Counts
    champion: Counts
    units: Units


def simulate_pair(setting: Setting, rng: np.random.Generator) -> Pair:
    """Draws an evaluation set and two models' confusion matrices on it."""
    lengths = np.full(setting.num_groups, setting.num_frames)
    if setting.is_uneven:
        lengths = np.maximum(1, rng.lognormal(np.log(lengths), LENGTH_SPREAD).astype(np.int64))
    group = np.repeat(np.arange(setting.num_groups), lengths)
    truth = _simulate_truth(setting, group, rng)
    hardness = HIT_LOGIT + _simulate_effect(setting, group, SHARED_SPREAD, rng)
    challenger, champion = (
        _confuse(truth, hardness + gain + _simulate_effect(setting, group, MODEL_SPREAD, rng))
        for gain in (setting.gain, 0.0)
    )
    return Pair(challenger, champion, bundle([f"{index:03}" for index in group], setting.block_length))


def _simulate_truth(setting: Setting, group: Counts, rng: np.random.Generator) -> Counts:
    """Gives (I, C) labelled px."""
    mix = rng.dirichlet(30 * FREQUENCY, setting.num_groups)
    mix[:, -NUM_RARE:] *= rng.random((setting.num_groups, NUM_RARE)) < setting.rare_share
    share = mix[group] * rng.gamma(4, size=(len(group), NUM_CLASSES))
    truth: Counts = np.round(FRAME_PX * share / share.sum(axis=1, keepdims=True)).astype(np.int64)
    return truth


def _simulate_effect(setting: Setting, group: Counts, spread: float, rng: np.random.Generator) -> Floats:
    """Gives (I, C) logits: what a video's frames have in common, and each frame's noise."""
    fresh = rng.normal(0, spread, (len(group), NUM_CLASSES))
    keep = 1.0 if setting.likeness_frames is None else float(np.exp(-1 / setting.likeness_frames))
    for frame in np.flatnonzero(np.diff(group) == 0) + 1:
        fresh[frame] = keep * fresh[frame - 1] + np.sqrt(1 - keep**2) * fresh[frame]
    return fresh + rng.normal(0, FRAME_SPREAD, fresh.shape)


def _confuse(truth: Counts, logits: Floats) -> Counts:
    """Gives (I, C, C) matrices."""
    hit = np.round(truth / (1 + np.exp(-logits))).astype(np.int64)
    others = np.tile(FREQUENCY, (NUM_CLASSES, 1)) * (1 - np.eye(NUM_CLASSES))
    others /= others.sum(axis=1, keepdims=True)
    confusion: Counts = np.floor((truth - hit)[:, :, None] * others).astype(np.int64)
    confusion[:, range(NUM_CLASSES), range(NUM_CLASSES)] = hit
    confusion[:, range(NUM_CLASSES), [1] + [0] * (NUM_CLASSES - 1)] += truth - confusion.sum(
        axis=2
    )  # what flooring left
    return confusion


def low_of_segpipe(pair: Pair) -> float:
    """Gives the lower bound of `compare`."""
    return compare(confusions_of(pair.challenger), confusions_of(pair.champion), pair.units).delta.low


def low_of_percentile(pair: Pair) -> float:
    """Gives the 2.5% quantile of the paired resamples of whole units."""
    rng = np.random.default_rng(0)
    num_units = pair.units.num_units
    times = rng.multinomial(num_units, np.full(num_units, 1 / num_units), NUM_RESAMPLES).astype(np.float64)
    challenger, champion = (_mean_iou(times[:, pair.units.index], model) for model in (pair.challenger, pair.champion))
    return float(np.quantile(challenger - champion, 0.025))


def _mean_iou(times: Floats, confusions: Counts) -> Floats:
    """Gives the mean IoU of each row of (resamples, I) multiplicities."""
    hit = times @ confusions.diagonal(axis1=1, axis2=2)
    truth, predicted = times @ confusions.sum(axis=2), times @ confusions.sum(axis=1)
    iou = np.divide(hit, truth + predicted - hit, out=np.full(hit.shape, np.nan), where=truth > 0)
    mean: Floats = np.nanmean(iou, axis=1)
    return mean


def take_frames(pair: Pair) -> Pair:
    """Makes each frame a unit, as if frames were independent."""
    num_images = len(pair.challenger)
    return replace(pair, units=Units(np.arange(num_images), "group", num_images))


WAYS: dict[str, Callable[[Pair], float]] = {
    "segpipe": low_of_segpipe,
    "percentiles": low_of_percentile,
    "segpipe, frames": lambda pair: low_of_segpipe(take_frames(pair)),
    "percentiles, frames": lambda pair: low_of_percentile(take_frames(pair)),
}


def rate_of_better(setting: Setting, way: Callable[[Pair], float], num_pairs: int, seed: int = 0) -> float:
    """Gives the share of simulated pairs whose lower bound is above zero."""
    rng = np.random.default_rng([seed, setting.num_groups])
    return float(np.mean([way(simulate_pair(setting, rng)) > 0 for _ in range(num_pairs)]))


def print_table(title: str, settings: list[Setting], num_pairs: int) -> None:
    """Prints one row a setting, one column a way."""
    print(f"\n{title}, {num_pairs} pairs a row\n\n| set | units | frames alike for | {' | '.join(WAYS)} |")
    print("| --- | ---: | ---: |" + " ---: |" * len(WAYS))
    for setting in settings:
        rates = " | ".join(f"{100 * rate_of_better(setting, way, num_pairs):.1f}%" for way in WAYS.values())
        num_units = simulate_pair(setting, np.random.default_rng(0)).units.num_units
        alike = "the video" if setting.likeness_frames is None else f"{setting.likeness_frames:.0f}"
        print(f"| {setting.name} | {num_units} | {alike} | {rates} |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    num_pairs = parser.parse_args().pairs
    sets = [replace(setting, num_groups=num) for setting in (EVEN, RARE, UNEVEN) for num in NUM_GROUPS]
    sets += ONE_VIDEO + FEW_LONG
    print_table("Called better though equal", sets, num_pairs)
    gains = [replace(setting, gain=THREE_POINTS) for setting in sets]
    print_table("Called better with a gain of 3 points of mean IoU", gains, num_pairs)


if __name__ == "__main__":
    main()
