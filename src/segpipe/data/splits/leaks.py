"""The leak gate: finds images on both sides of a split that make its scores too good.

There are three kinds: the same image twice, images that look alike, and a sequence with a part on each side.
Fingerprints of all samples give the pairs that could look alike; only the images of these pairs are read.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from segpipe.data.inspection.fingerprint import MIRROR, Vectors, make_thumbnail, measure_similarity, read_fingerprints
from segpipe.data.splits.split import order_naturally
from segpipe.data.store import TEST, TRAIN, VAL
from segpipe.errors import Problem
from segpipe.faults import shown

SPLITS_IN_ORDER = (TRAIN, VAL, TEST)

# Copies of images of the starter and of CamVid (compressed, resized, brightened, mirrored, cropped by 5%) agree in more
# than 0.85 of their fingerprints and 0.97 of their details; of different streets, details agree in less than 0.6.
MIN_AGREEMENT, MIN_SIMILARITY = 0.85, 0.75
NUM_CANDIDATES = 3  # compared with each sample of val or test, those that agree best
MIN_CONTRAST = 4  # grey levels; below, an image shows too little to be recognised
# The share of neighbours by name that agree as well as the best 0.01 of other pairs: 0.8 in CamVid, 0.3 in the starter,
# 0.03 in shuffled sets.
MIN_ALIKE_SHARE, MIN_NUM_NEIGHBOURS, CHANCE = 0.15, 10, 0.01
BLOCK_SIZE = 1 << 20  # products held at once
NUM_THUMBNAILS = 1 << 12  # kept, 4 KB each

PAIR_HEIGHT_PX, PAIR_GAP_PX, WHITE = 240, 6, 255

Pixels = npt.NDArray[np.uint8]
ReadImage = Callable[[int], Pixels]


@dataclass(frozen=True)
class Leak:
    """Two or more samples that should not be in these splits.

    Args:
        kind: `leak-exact`, `leak-near`, `leak-sequence` or `duplicate`; keys of `faults.KINDS`.
        first: row of a sample in the manifest.
        second: row of the other one; of a larger set, the two to look at.
        where: the samples or the group, with their splits.
        what: what is wrong with them.
        fix: what to do about it.
        similarity: of the two, up to 1; None if the images were not compared.
    """

    kind: str
    first: int
    second: int
    where: str
    what: str
    fix: str
    similarity: float | None = None

    @property
    def problem(self) -> Problem:
        """The leak as a line for people."""
        return Problem(self.kind, self.where, self.what, self.fix)


def find_leaks(manifest: pd.DataFrame, read_image: ReadImage) -> list[Leak]:
    """Finds the same images, neighbours of a sequence and images that look alike in different splits.

    Samples of one group are not compared: if a group is in two splits, the group is the leak. Images of nearly one
    colour are not compared either; the same one in two splits is a duplicate.

    Args:
        manifest: one row a sample, with `sample_id`, `group`, `split`, `height`, `width`, `image_sha256`,
            `mask_sha256` and `perceptual_hash` (`fingerprint`).
        read_image: gives the (height, width, 3) uint8 RGB image of a row; called for pairs that could look alike.

    Returns:
        In this order: one for each image that occurs twice, one for each group in several splits, one where samples
        without a known group seem to be sequences, one for each sample of val or test that looks like one of another
        split, the most alike first.
    """
    if manifest.empty:
        return []
    vectors, contrasts = read_fingerprints(manifest["perceptual_hash"].tolist())
    samples = _Samples(manifest, vectors, contrasts >= MIN_CONTRAST)
    in_groups = [*_find_same(samples), *_find_sequences(samples)]
    return [*in_groups, *_find_unknown_sequences(samples), *_find_near(samples, read_image)]


class _Samples:
    """The columns of a manifest that leaks are found in."""

    def __init__(self, manifest: pd.DataFrame, vectors: Vectors, has_contrast: npt.NDArray[np.bool_]) -> None:
        self.manifest, self.vectors, self.has_contrast = manifest, vectors, has_contrast
        self.ids: list[str] = manifest["sample_id"].tolist()
        self.splits: list[str] = manifest["split"].tolist()
        self.groups: list[str] = manifest["group"].tolist()
        self.images: list[str] = manifest["image_sha256"].tolist()

    def name(self, index: int) -> str:
        return f"{self.ids[index]} ({self.splits[index]})"

    def agreement(self, first: int, second: int) -> float:
        return float(self.vectors[first] @ self.vectors[second])


def _find_same(samples: _Samples) -> Iterator[Leak]:
    columns = ["image_sha256", "height", "width"]
    rows = samples.manifest.reset_index(drop=True)
    rows = rows[rows.duplicated(columns, keep=False)]
    for _, members in rows.groupby(columns, sort=False):
        indices = sorted(members.index, key=lambda i: (SPLITS_IN_ORDER.index(samples.splits[i]), samples.ids[i]))
        first, second = indices[0], indices[-1]
        names = shown([samples.name(i) for i in indices])
        masks = "with the same mask" if members["mask_sha256"].nunique() == 1 else "with different masks"
        if samples.splits[first] == samples.splits[second]:
            fix = "Keep one" if "same" in masks else "Keep the one with the right mask"
            yield Leak("duplicate", first, second, names, f"are one image, {masks}", fix, 1.0)
        elif not samples.has_contrast[first]:
            what = f"are one image of nearly one colour, {masks}, in different splits"
            yield Leak("duplicate", first, second, names, what, "Keep one, or none if it is useless", 1.0)
        else:
            what = f"are one image, {masks}, on both sides of a split"
            yield Leak("leak-exact", first, second, names, what, "Keep one, or bring all into one group", 1.0)


def _find_sequences(samples: _Samples) -> Iterator[Leak]:
    rows = samples.manifest.reset_index(drop=True)
    rows = rows[rows.groupby("group")["split"].transform("nunique") > 1]
    for group, members in rows.groupby("group"):
        counts = Counter(members["split"])
        order = sorted(members.index, key=lambda i: order_naturally(samples.ids[i]))
        at_border = [(a, b) for a, b in itertools.pairwise(order) if samples.splits[a] != samples.splits[b]]
        first, second = max(at_border, key=lambda pair: samples.agreement(*pair))
        sides = " and ".join(f"{split} ({counts[split]})" for split in SPLITS_IN_ORDER if counts[split])
        closest = f"{samples.name(first)} and {samples.name(second)}"
        what = f"is in {sides}; neighbours in different splits are {closest}"
        fix = "Split by whole groups; `segpipe data split` proposes how"
        yield Leak("leak-sequence", first, second, f"group {group}", what, fix)


def _find_unknown_sequences(samples: _Samples) -> Iterator[Leak]:
    """Compares samples without a group with neighbours by name and with others: in a video, neighbours agree more."""
    num_members = Counter(samples.groups)
    alone = [i for i, group in enumerate(samples.groups) if num_members[group] == 1 and samples.has_contrast[i]]
    order = np.array(sorted(alone, key=lambda i: order_naturally(samples.ids[i])), np.int64)
    parted = [(a, b) for a, b in itertools.pairwise(order) if samples.splits[a] != samples.splits[b]]
    if len(parted) < MIN_NUM_NEIGHBOURS:
        return
    rows = samples.vectors[order]
    far = np.concatenate([(rows * np.roll(rows, len(rows) // part, axis=0)).sum(axis=1) for part in (2, 3, 5)])
    usual = float(np.quantile(far, 1 - CHANCE))
    agreements = np.array([samples.agreement(*pair) for pair in parted])
    share = float((agreements > usual).mean())
    if share >= MIN_ALIKE_SHARE:
        first, second = parted[int(agreements.argmax())]
        what = (
            f"seem to be sequences: of {len(parted)} neighbours by name in different splits, {share:.0%} look as alike "
            f"as {CHANCE:.0%} of other pairs do, such as {samples.name(first)} and {samples.name(second)}"
        )
        fix = "Name the sequences (preprocess.group_pattern); `segpipe data split --by` proposes a split by them"
        yield Leak("leak-sequence", int(first), int(second), f"{len(order)} samples without a known group", what, fix)


def _find_near(samples: _Samples, read_image: ReadImage) -> Iterator[Leak]:
    @lru_cache(maxsize=NUM_THUMBNAILS)
    def thumbnail(index: int) -> Pixels:
        return make_thumbnail(read_image(index))

    found: dict[int, Leak] = {}
    for held_out, other, is_mirrored in _find_candidates(samples):
        # Equal images are reported already, and one leak for each sample is enough.
        if held_out in found or samples.images[held_out] == samples.images[other]:
            continue
        seen = thumbnail(other)
        similarity = measure_similarity(thumbnail(held_out), np.fliplr(seen) if is_mirrored else seen)
        if similarity >= MIN_SIMILARITY:
            mirrored = "mirrored, " if is_mirrored else ""
            what = f"look alike ({mirrored}similarity {similarity:.2f}) and are in different splits"
            fix = "Look at both; keep one, or bring both into one group (`segpipe data split --tie` does)"
            where = f"{samples.name(held_out)} and {samples.name(other)}"
            found[held_out] = Leak("leak-near", held_out, other, where, what, fix, similarity)
    yield from sorted(found.values(), key=lambda leak: -(leak.similarity or 0))


def _find_candidates(samples: _Samples) -> Iterator[tuple[int, int, bool]]:
    """Finds for each sample of val and test the nearest of the splits before it, nearest first."""
    codes = pd.factorize(pd.Series(samples.groups))[0]
    splits = np.array(samples.splits)
    for number, split in enumerate(SPLITS_IN_ORDER[1:], start=1):
        rows = np.flatnonzero((splits == split) & samples.has_contrast)
        columns = np.flatnonzero(np.isin(splits, SPLITS_IN_ORDER[:number]) & samples.has_contrast)
        if columns.size:
            yield from find_alike(samples.vectors, codes, rows, columns)


def find_alike(
    vectors: Vectors,
    groups: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    min_agreement: float = MIN_AGREEMENT,
) -> Iterator[tuple[int, int, bool]]:
    """Finds for each of some fingerprints the few others that agree best, by comparing all, a block at a time.

    Comparing all is a matrix product and takes less than a search tree up to some 100,000 samples; it misses nothing,
    and images that are all alike do not slow it down.

    Args:
        vectors: (num_samples, 63) float32, of `read_fingerprints`.
        groups: (num_samples,) the group of each sample; those of one group are not compared.
        rows: the samples to find others for.
        columns: the samples to find, at least one.
        min_agreement: of the fingerprints, up to 1.

    Yields:
        A sample of `rows`, one of `columns`, and whether they agree better mirrored; at most three for each of `rows`,
        best first.
    """
    others = np.ascontiguousarray(vectors[columns].T)
    shared = np.isin(groups[columns], groups[rows])
    is_shared = bool(shared.any())
    num_rows = max(1, BLOCK_SIZE // len(columns))
    for start in range(0, len(rows), num_rows):
        block = rows[start : start + num_rows]
        as_it_is, mirrored = vectors[block] @ others, (vectors[block] * MIRROR) @ others
        agreement = np.maximum(as_it_is, mirrored)
        if is_shared:
            agreement[groups[block][:, None] == groups[columns]] = -1
        lines = np.arange(len(block))
        for _ in range(min(NUM_CANDIDATES, len(columns))):
            best = agreement.argmax(axis=1)
            for line in np.flatnonzero(agreement[lines, best] >= min_agreement):
                column = best[line]
                is_mirrored = bool(mirrored[line, column] > as_it_is[line, column])
                yield int(block[line]), int(columns[column]), is_mirrored
            agreement[lines, best] = -1


def draw_pair(first: Pixels, second: Pixels) -> Pixels:
    """Draws two images side by side, at one height.

    Args:
        first: (height, width, 3) uint8 RGB.
        second: the same, of any size.

    Returns:
        (240, width, 3) uint8 RGB.
    """
    resized = [_resize(image) for image in (first, second)]
    gap = np.full((PAIR_HEIGHT_PX, PAIR_GAP_PX, 3), WHITE, np.uint8)
    return np.hstack([resized[0], gap, resized[1]])


def _resize(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    size = max(1, round(width * PAIR_HEIGHT_PX / height)), PAIR_HEIGHT_PX
    interpolation = cv2.INTER_AREA if height > PAIR_HEIGHT_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
