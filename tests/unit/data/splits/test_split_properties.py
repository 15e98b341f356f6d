"""Splits of any groups: whole groups, in any order of the samples, as near the shares as whole groups come."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from properties import holds_for_all

from segpipe.config.preprocess import Split
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.source import RawSample
from segpipe.data.splits.proposal import propose_split
from segpipe.data.splits.split import assign_splits

FILE = Path("x.png")
# The number of samples of each group, by the group's name.
GROUPS = st.dictionaries(st.text(max_size=5), st.integers(1, 12), min_size=1, max_size=15)
SHARES, SEEDS = st.sampled_from([0.1, 0.25, 0.4]), st.integers(0, 1000)


def assign(groups: list[str], val: float, test: float, seed: int) -> list[str]:
    samples = [RawSample(str(index), FILE, IndexMask(FILE, {0: 0})) for index in range(len(groups))]
    return assign_splits(samples, groups, Split(val=val, test=test), seed)[0]


def shuffled(groups: list[str], seed: int) -> list[str]:
    return random.Random(seed).sample(groups, len(groups))


@holds_for_all(60, sizes=GROUPS, val=SHARES, test=SHARES, seed=SEEDS)
def test_drawn_splits_hold_whole_groups_in_any_order(sizes: dict[str, int], val: float, test: float, seed: int) -> None:
    groups = list(Counter(sizes).elements())
    split_of = dict(zip(groups, splits := assign(groups, val, test, seed), strict=True))
    assert [split_of[group] for group in groups] == splits

    others = shuffled(groups, seed)
    assert assign(others, val, test, seed) == [split_of[group] for group in others]

    # No group that is taken or left would bring a share nearer than half of the largest group.
    num_of = Counter(splits)
    assert abs(num_of["test"] - test * len(groups)) <= max(sizes.values()) / 2
    num_free = len(groups) - num_of["test"]
    assert abs(num_of["val"] - val * num_free) <= max(sizes.values()) / 2


@holds_for_all(12, sizes=GROUPS, num_classes=st.integers(1, 4), seed=SEEDS)
def test_a_proposal_holds_whole_groups_in_any_order(sizes: dict[str, int], num_classes: int, seed: int) -> None:
    groups = list(Counter(sizes).elements())
    rng = np.random.default_rng(seed)
    num_px = rng.integers(0, 100, (len(groups), num_classes)) * rng.integers(0, 2, (len(groups), num_classes))
    proposal = propose_split(num_px, groups, {"val": 0.2, "test": 0.2}, seed)
    assert set(proposal.split_of_group) == set(groups)
    num_samples = Counter(proposal.split_of_group[group] for group in groups)
    assert proposal.num_samples == tuple(num_samples[name] for name in proposal.splits)
    assert proposal.num_px.sum(axis=0).tolist() == num_px.sum(axis=0).tolist()
    # A split is empty only where there are fewer groups than splits, and then it is not train.
    assert np.count_nonzero(proposal.num_samples) == min(len(sizes), len(proposal.splits))
    assert proposal.num_samples[0] > 0

    order = rng.permutation(len(groups))
    others = propose_split(num_px[order], [groups[index] for index in order], {"val": 0.2, "test": 0.2}, seed)
    assert others.split_of_group == proposal.split_of_group
