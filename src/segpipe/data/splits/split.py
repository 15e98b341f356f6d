"""Assigns samples to train, val and test, whole groups (video sequences) at a time."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from segpipe.config.preprocess import Split, SplitRule
from segpipe.data.sources.source import RawSample
from segpipe.data.store import TEST, TRAIN, VAL
from segpipe.errors import Problem
from segpipe.faults import shown


def find_groups(
    samples: Sequence[RawSample], group_pattern: str | None, group_column: str | None = None
) -> tuple[list[str], list[Problem]]:
    """Finds each sample's group: by its id, by a column of the source's table, or as the source gives it.

    Args:
        samples: all samples.
        group_pattern: regular expression with one (group), searched in the id.
        group_column: instead of a pattern, a column of the source's table.

    Returns:
        One name a sample, and a problem for each sample whose group is not found. Without pattern and column, a sample
        to which the source gives no group is a group of its own, named by its id.
    """
    if group_pattern is not None:
        return find_groups_by_pattern([sample.sample_id for sample in samples], group_pattern)
    if group_column is not None:
        return _find_groups_in_column(samples, group_column)
    return [sample.group if sample.group is not None else sample.sample_id for sample in samples], []


def find_groups_by_pattern(sample_ids: Sequence[str], group_pattern: str) -> tuple[list[str], list[Problem]]:
    """Finds each sample's group in its id.

    Returns:
        One name a sample, and a problem for each id in which the pattern is not found.
    """
    groups, problems = [], []
    for sample_id in sample_ids:
        match = re.search(group_pattern, sample_id)
        name = match.group(1) if match is not None else None
        if name is None:
            what = f"the group's pattern {group_pattern!r} does not occur in the sample's id"
            problems.append(Problem("group-missing", sample_id, what, "Fix the pattern or rename the file"))
        groups.append(name or "")
    return groups, problems


def _find_groups_in_column(samples: Sequence[RawSample], column: str) -> tuple[list[str], list[Problem]]:
    known = sorted({name for sample in samples for name in sample.attributes})
    if column not in known:
        fix = f"There are: {', '.join(known)}" if known else "The source has no table: give group_pattern instead"
        what = f"no sample of the source has a column {column!r}"
        return [""] * len(samples), [Problem("group-missing", "preprocess.group_column", what, fix)]
    fix = f"Fill in the column {column!r} of the source's table"
    problems = [
        Problem("group-missing", sample.sample_id, f"has no value in column {column!r}, which names the group", fix)
        for sample in samples
        if not sample.attributes.get(column)
    ]
    return [sample.attributes.get(column, "") for sample in samples], problems


def order_naturally(name: str) -> tuple[tuple[str | int, ...], str]:
    """Gives a sort key that puts frame 9 before frame 10."""
    parts = re.split(r"(\d+)", name)
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def order_by_chance(names: Sequence[str], seed: str) -> list[str]:
    """Orders names by a hash, not by a shuffle: the order is the same with any version of any library."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def assign_splits(
    samples: Sequence[RawSample], groups: Sequence[str], split: Split, seed: int
) -> tuple[list[str], list[Problem]]:
    """Gives each sample its split: test's rule first, then val's on what is left, the rest is train.

    Args:
        samples: all samples.
        groups: the group of each.
        split: the rules; see `Split`.
        seed: of the draw if a rule is a share.

    Returns:
        'train', 'val' or 'test' for each sample, and a problem for each rule that cannot be kept.
    """
    splits = [TRAIN] * len(samples)
    problems: list[Problem] = []
    unknown: dict[str, list[str]] = {}
    rules: list[tuple[str, SplitRule]] = [(VAL, split.val)]
    if split.test is not None:
        rules.insert(0, (TEST, split.test))
    for name, rule in rules:
        free = [i for i in range(len(samples)) if splits[i] == TRAIN]
        if rule == "source":
            chosen = [i for i in free if samples[i].official_split == name]
        else:
            kept_out = _choose_groups(name, rule, [groups[i] for i in free], seed)
            chosen = [i for i in free if groups[i] in kept_out]
            if isinstance(rule, list) and (
                absent := [group for group in rule if group not in {groups[i] for i in free}]
            ):
                unknown[name] = absent
        for i in chosen:
            splits[i] = name
    if unknown:
        problems.append(_name_unknown(unknown, groups))
    for name in [*(name for name, _ in rules), TRAIN]:
        if name not in splits:
            what = f"no sample is left for it ({len(set(groups))} groups in all)"
            fix = "Fix preprocess.split; `segpipe data split` proposes one"
            problems.append(Problem("split-empty", f"split {name}", what, fix))
    return splits, problems


def _name_unknown(unknown: Mapping[str, Sequence[str]], groups: Sequence[str]) -> Problem:
    """Names the groups that rules name and that are not free, with all groups once."""
    where = "preprocess.split" if len(unknown) > 1 else f"preprocess.split.{next(iter(unknown))}"
    named = "; ".join(
        f"{name}: no free group {shown([repr(group) for group in absent], 20)}" for name, absent in unknown.items()
    )
    known = sorted(set(groups), key=order_naturally)
    return Problem(
        "group-unknown", where, named, f"There are: {shown(known, 20)}. `segpipe data split` proposes a split"
    )


def _choose_groups(name: str, rule: list[str] | float, free_groups: Sequence[str], seed: int) -> set[str]:
    if isinstance(rule, list):
        return set(rule)
    num_samples = Counter(free_groups)
    wanted = rule * len(free_groups)
    chosen: set[str] = set()
    taken = 0
    for group in order_by_chance(list(num_samples), f"{seed}/{name}"):
        if abs(taken + num_samples[group] - wanted) < abs(taken - wanted):
            chosen.add(group)
            taken += num_samples[group]
    return chosen
