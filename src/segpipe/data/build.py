"""Builds the store from a source: every sample decoded, checked and assigned to a split, or every problem reported."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pandas as pd

from segpipe.classes import ClassTable
from segpipe.config import Preprocess
from segpipe.data.images import ImageFileError, read_image, read_mask
from segpipe.data.source import RawSample, Source
from segpipe.data.split import TRAIN, assign_splits, find_groups
from segpipe.data.store import Sample, num_px_of_classes, write_store
from segpipe.errors import DataError, Problem

NUM_THREADS = 4
NUM_AHEAD = 16
MAX_NEAR_DUPLICATE_BITS = 2

T = TypeVar("T")


def build_store(source: Source, root: Path, settings: Preprocess, output: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Decodes, checks and writes all samples of a source.

    Args:
        source: what a reader found.
        root: the folder below which the source's files lie; paths in messages are relative to it.
        settings: groups and splits.
        output: existing empty folder for the store.

    Returns:
        The manifest, and what a person should know but that stops nothing.

    Raises:
        DataError: at least one problem; all are in it.
    """
    problems = list(source.problems)
    ids = Counter(sample.sample_id for sample in source.samples)
    for sample_id in sorted(name for name, count in ids.items() if count > 1):
        problems.append(Problem("id-twice", sample_id, "names two samples of the source", "Rename or remove one"))
    groups, wrong = find_groups(source.samples, settings.group_pattern)
    problems += wrong
    splits, wrong = assign_splits(source.samples, groups, settings.split, settings.seed)
    problems += wrong

    def decode(index: int) -> Sample | list[Problem]:
        raw = source.samples[index]
        return _decode(raw, root, source.classes, groups[index], splits[index])

    def good_samples() -> Iterator[Sample]:
        for decoded in _map_ahead(decode, range(len(source.samples))):
            if isinstance(decoded, Sample):
                yield decoded
            else:
                problems.extend(decoded)

    manifest = write_store(output, source.classes, good_samples()) if source.samples else pd.DataFrame()
    if not problems:
        problems += _find_absent_classes(manifest, source.classes)
        problems += _find_leaks(manifest)
    if problems:
        raise DataError(problems)
    return manifest, _find_warnings(manifest, source.classes)


def _map_ahead(function: Callable[[int], T], indices: Iterable[int]) -> Iterator[T]:
    """Maps in threads, in order, never more than a few results ahead: memory stays flat."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        waiting: deque[Future[T]] = deque()
        for index in indices:
            waiting.append(pool.submit(function, index))
            if len(waiting) > NUM_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _decode(raw: RawSample, root: Path, classes: ClassTable, group: str, split: str) -> Sample | list[Problem]:
    image = mask = None
    problems = []
    try:
        image = read_image(raw.image)
    except ImageFileError as fault:
        problems.append(Problem(fault.kind, raw.image.relative_to(root).as_posix(), fault.what, fault.mend))
    try:
        mask = read_mask(raw.mask, classes)
    except ImageFileError as fault:
        problems.append(Problem(fault.kind, raw.mask.relative_to(root).as_posix(), fault.what, fault.mend))
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        sizes = f"is {mask.shape[1]}x{mask.shape[0]}, its image {image.shape[1]}x{image.shape[0]}"
        mend = "Export the mask in the image's size (nearest neighbour, never interpolated)"
        problems.append(Problem("size-mismatch", raw.mask.relative_to(root).as_posix(), sizes, mend))
    if problems or image is None or mask is None:
        return problems
    return Sample(raw.sample_id, group, split, image, mask)


def _find_absent_classes(manifest: pd.DataFrame, classes: ClassTable) -> list[Problem]:
    num_px = num_px_of_classes(manifest[manifest["split"] == TRAIN], classes).sum(axis=0)
    mend = "Label some, move a sequence that has it into train, or take it out of the class table"
    all_void = [
        Problem("split-void", f"split {split}", "has not one labelled pixel", "Label some, or choose other groups")
        for split, rows in manifest.groupby("split")
        if split != TRAIN and not num_px_of_classes(rows, classes).any()
    ]
    return all_void + [
        Problem("class-absent", f"class {name}", "has not one pixel in the training split", mend)
        for name, count in zip(classes.names, num_px, strict=True)
        if count == 0
    ]


def _find_leaks(manifest: pd.DataFrame) -> list[Problem]:
    problems = []
    for _, twins in manifest.groupby("image_sha256"):
        if twins["split"].nunique() > 1:
            names = ", ".join(f"{row.sample_id} ({row.split})" for row in twins.itertuples())
            what = "the same image stands on both sides of a split"
            problems.append(Problem("leak", names, what, "Remove one, or bring both into one group"))
    return problems


def _find_warnings(manifest: pd.DataFrame, classes: ClassTable) -> list[Problem]:
    warnings = []
    for group, rows in manifest.groupby("group"):
        if rows["split"].nunique() > 1:
            what = f"stands in {' and '.join(sorted(rows['split'].unique()))}: scores there are too good"
            warnings.append(Problem("group-straddles", f"group {group}", what, "Split by whole groups"))
    for split, rows in manifest.groupby("split"):
        for name, count in zip(classes.names, num_px_of_classes(rows, classes).sum(axis=0), strict=True):
            if count == 0:
                what = "does not occur and is not measured there"
                warnings.append(Problem("class-absent", f"split {split}, class {name}", what, "Label some"))
    return warnings + _find_near_duplicates(manifest)


def _find_near_duplicates(manifest: pd.DataFrame) -> list[Problem]:
    """Finds pairs across splits whose perceptual hashes agree in one of four 16-bit parts and nearly in the whole."""
    hashes = [int(text, 16) for text in manifest["perceptual_hash"]]
    names, splits = manifest["sample_id"].tolist(), manifest["split"].tolist()
    buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index, value in enumerate(hashes):
        for part in range(4):
            buckets[part, value >> (16 * part) & 0xFFFF].append(index)
    pairs = {
        (a, b)
        for members in buckets.values()
        for a in members
        for b in members
        if a < b and splits[a] != splits[b]
        if (hashes[a] ^ hashes[b]).bit_count() <= MAX_NEAR_DUPLICATE_BITS
    }
    what = "look alike and stand in different splits"
    return [
        Problem(
            "near-duplicate",
            f"{names[a]} ({splits[a]}) and {names[b]} ({splits[b]})",
            what,
            "Look at both; if they are one scene, bring them into one group",
        )
        for a, b in sorted(pairs)
    ]
