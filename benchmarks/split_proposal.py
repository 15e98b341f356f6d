"""The proposed split by whole groups, against scikit-learn's StratifiedGroupKFold.

Both deal whole groups to train, val and test with 70, 15 and 15% of the samples. StratifiedGroupKFold makes 7 folds
(14% each): the first is val, the second test. It balances one label a sample, while an image has pixels of many
classes; so it is given the rarest class that an image shows, or the one with most pixels. Each method gets ten seeds
(the folds are shuffled), and the mean over the seeds is printed.

deviation: how far a class's share of a split is from its share of the whole, in % of the latter; mean over splits and
    classes.
missing: classes of which val or test has no pixel; and, most serious, train.
share error: how far the share of the samples of val and test is from 15%, in points; mean of the two.

Sets: the masks of the starter data; and made sets of groups whose sizes differ, with rare classes in few groups.

    python benchmarks/split_proposal.py [--masks DIR --pattern REGEX]
"""

import argparse
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from segpipe.classes import IGNORE_INDEX
from segpipe.data.splits.proposal import propose_split

SHARES = {"val": 0.15, "test": 0.15}
NUM_SEEDS, NUM_FOLDS = 10, 7
Counts = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Set:
    """Samples to split.

    Attributes:
        name: for the table.
        num_px: (num_samples, num_classes) int64 pixels of each class.
        groups: of each sample.
    """

    name: str
    num_px: Counts
    groups: Sequence[str]


def read_set(masks: Path, pattern: str) -> Set:
    """Counts the pixels of index masks; the first group of the pattern in a file's name is the sample's group."""
    paths = sorted(masks.glob("*.png"))
    counts = [np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)[:IGNORE_INDEX] for path in paths]
    num_px = np.array(counts, np.int64)
    groups = [found[1] if (found := re.search(pattern, path.stem)) else path.stem for path in paths]
    used = num_px[:, : int(np.flatnonzero(num_px.sum(axis=0))[-1]) + 1]
    return Set(f"{masks}: {len(paths)} samples, {len(set(groups))} groups", used, groups)


def make_set(num_groups: int, num_classes: int = 12) -> Set:
    """Makes groups of 1 to some hundred samples; class c is in a share of 1 / (1 + c / 2) of the groups."""
    rng = np.random.default_rng(num_groups)
    sizes = np.exp(rng.normal(2.0, 1.0, num_groups)).round().clip(1).astype(int)
    groups, rows = [], []
    for number, size in enumerate(sizes):
        has_class = rng.random(num_classes) < 1 / (1 + np.arange(num_classes) / 2)
        has_class[0] = True
        level = rng.lognormal(0, 0.7, num_classes) * 10000 / (1 + np.arange(num_classes)) * has_class
        for _ in range(size):
            shown = rng.random(num_classes) < 0.8
            rows.append((level * rng.lognormal(0, 0.4, num_classes) * shown).astype(np.int64))
            groups.append(f"group{number:04d}")
    return Set(f"made: {len(rows)} samples, {num_groups} groups", np.array(rows), groups)


def split_here(data: Set, seed: int) -> Places:
    """Gives 0, 1 or 2 for each sample: train, val, test."""
    proposal = propose_split(data.num_px, data.groups, SHARES, seed)
    return np.array([proposal.splits.index(proposal.split_of_group[group]) for group in data.groups])


def split_by_label(data: Set, seed: int, labels: Counts) -> Places:
    """As `split_here`, by StratifiedGroupKFold."""
    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    places = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label may be in fewer samples than there are folds
        for place, (_, held_out) in zip((1, 2), folds.split(labels, labels, list(data.groups)), strict=False):
            places[held_out] = place
    return places


def rarest_class(num_px: Counts) -> Counts:
    """Labels each sample by the class of its pixels that has the fewest in the whole set."""
    order = np.argsort(num_px.sum(axis=0), kind="stable")
    order = order[num_px.sum(axis=0)[order] > 0]
    return np.asarray(order[(num_px[:, order] > 0).argmax(axis=1)], np.int64)


def measure(data: Set, places: Places) -> tuple[float, float, float, float]:
    """Gives deviation (%), classes missing in val and test, in train, and the share error (points)."""
    held = np.array([data.num_px[places == place].sum(axis=0) for place in range(3)], np.float64)
    used = held.sum(axis=0) > 0
    whole = held[:, used].sum(axis=0) / held.sum()
    shares = held[:, used] / np.maximum(held.sum(axis=1, keepdims=True), 1)
    missing = (held[:, used] == 0).sum(axis=1)
    sizes = np.bincount(places, minlength=3) / len(places)
    share_error = 100 * float(np.mean([abs(sizes[place] - 0.15) for place in (1, 2)]))
    return 100 * float(np.abs(shares / whole - 1).mean()), float(missing[1:].sum()), float(missing[0]), share_error


def tell(name: str, data: Set, split: Callable[[Set, int], Places]) -> None:
    """Prints a row: means over the seeds."""
    start = time.process_time()
    found = [measure(data, split(data, seed)) for seed in range(NUM_SEEDS)]
    seconds = (time.process_time() - start) / NUM_SEEDS
    deviation, missing, in_train, share = np.mean(found, axis=0)
    print(f"| {name} | {deviation:.1f} | {missing:.1f} | {in_train:.1f} | {share:.1f} | {seconds:.2f} |", flush=True)


def main() -> None:
    """Prints a table for each set."""
    parser = argparse.ArgumentParser(description="Splits by groups, against StratifiedGroupKFold.")
    parser.add_argument("--masks", type=Path, default=Path("data/masks"), help="index masks (default data/masks)")
    parser.add_argument("--pattern", default="^([^_]+)_", help="its group is a sample's group (default: the starter's)")
    options = parser.parse_args()
    for data in (read_set(options.masks, options.pattern), *(make_set(number) for number in (12, 40, 150))):
        print(f"\n{data.name}, {data.num_px.shape[1]} classes\n")
        print("| method | deviation, % | missing in val, test | missing in train | share error, points | seconds |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        labels = {"rarest": rarest_class(data.num_px), "largest": data.num_px.argmax(axis=1)}
        tell("segpipe data split", data, split_here)
        for kind, label in labels.items():
            name = f"StratifiedGroupKFold, {kind} class"
            tell(name, data, lambda one, seed, label=label: split_by_label(one, seed, label))  # type: ignore[misc]


if __name__ == "__main__":
    main()
