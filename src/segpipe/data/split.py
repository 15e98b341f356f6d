"""Assigns samples to train, val and test, whole groups (video sequences) at a time."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from segpipe.config import Split, SplitRule
from segpipe.data.source import RawSample
from segpipe.errors import Problem

TRAIN, VAL, TEST = "train", "val", "test"


def find_groups(samples: Sequence[RawSample], group_pattern: str) -> tuple[list[str], list[Problem]]:
    """Finds each sample's group in its id.

    Returns:
        One name a sample, and a problem for each id in which the pattern is not found.
    """
    groups, problems = [], []
    for sample in samples:
        match = re.search(group_pattern, sample.sample_id)
        if match is None:
            what = f"preprocess.group_pattern {group_pattern!r} does not occur in the sample's id"
            problems.append(Problem("group-missing", sample.sample_id, what, "Mend the pattern or rename the file"))
        groups.append("" if match is None else match.group(1))
    return groups, problems


def assign_splits(
    samples: Sequence[RawSample], groups: Sequence[str], split: Split, seed: int
) -> tuple[list[str], list[Problem]]:
    """Gives each sample its split: test's rule first, then val's on what is left, the rest is train.

    Args:
        samples: all samples.
        groups: the group of each.
        split: the rules; see `Split`.
        seed: of the draw where a rule is a share.

    Returns:
        'train', 'val' or 'test' for each sample, and a problem for each rule that cannot be kept.
    """
    splits = [TRAIN] * len(samples)
    problems: list[Problem] = []
    rules: list[tuple[str, SplitRule]] = [(VAL, split.val)]
    if split.test is not None:
        rules.insert(0, (TEST, split.test))
    for name, rule in rules:
        free = [i for i in range(len(samples)) if splits[i] == TRAIN]
        if rule == "source":
            chosen = [i for i in free if samples[i].official_split == name]
        else:
            kept_out, wrong = _choose_groups(name, rule, [groups[i] for i in free], seed)
            chosen = [i for i in free if groups[i] in kept_out]
            problems += wrong
        for i in chosen:
            splits[i] = name
    for name in [*(name for name, _ in rules), TRAIN]:
        if name not in splits:
            what = f"no sample is left for it ({len(set(groups))} groups in all)"
            problems.append(Problem("split-empty", f"split {name}", what, "Mend preprocess.split"))
    return splits, problems


def _choose_groups(
    name: str, rule: list[str] | float, free_groups: Sequence[str], seed: int
) -> tuple[set[str], list[Problem]]:
    where = f"preprocess.split.{name}"
    num_samples = Counter(free_groups)
    if isinstance(rule, list):
        problems = [
            Problem("group-unknown", where, f"no free group {group!r}", f"There are: {', '.join(sorted(num_samples))}")
            for group in rule
            if group not in num_samples
        ]
        return set(rule), problems
    # A hash, not a shuffle: the order is the same with any version of any library.
    order = sorted(num_samples, key=lambda group: hashlib.sha256(f"{seed}/{name}/{group}".encode()).digest())
    wanted = rule * len(free_groups)
    chosen: set[str] = set()
    taken = 0
    for group in order:
        if abs(taken + num_samples[group] - wanted) < abs(taken - wanted):
            chosen.add(group)
            taken += num_samples[group]
    return chosen, []
