"""Proposes which groups to keep out of training, so that each split has its share of each class.

Whole groups are dealt to the splits by greedy stratification (Sechidis, Tsoumakas, Vlahavas, "On the stratification of
multi-label data", ECML PKDD 2011), with pixels of classes as labels, and then moved and swapped as long as that helps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from segpipe.data.inspection.fingerprint import read_fingerprints
from segpipe.data.splits.leaks import MIN_CONTRAST, find_alike
from segpipe.data.splits.split import order_by_chance, order_naturally
from segpipe.data.store import TEST, TRAIN, VAL

# Costs that are added to the distance from the shares.
EMPTY_COST = {TRAIN: 4e6, VAL: 2e6, TEST: 1e6}
UNTRAINED_COST, UNMEASURED_COST = 1e5, 1.0
MIN_GAIN = 1e-6
NUM_STARTS = 12
MAX_SWAP_GROUPS = 400  # with more groups, moves alone come near enough
# Of copies that were compressed, resized, brightened or mirrored at least this much of the fingerprints agrees.
MIN_TIED_AGREEMENT = 0.97

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """Groups dealt to splits.

    Args:
        splits: the names of the splits, train first.
        wanted: the share of all samples that each split was to have.
        split_of_group: the split of each group, groups in natural order.
        num_groups: of each split.
        num_samples: of each split.
        num_px: (num_splits, num_classes) int64 labelled pixels.
        num_groups_of_class: (num_classes,) int64 groups in which the class occurs.
    """

    splits: tuple[str, ...]
    wanted: tuple[float, ...]
    split_of_group: Mapping[str, str]
    num_groups: tuple[int, ...]
    num_samples: tuple[int, ...]
    num_px: Counts
    num_groups_of_class: Counts

    def groups_of(self, split: str) -> list[str]:
        """The groups of a split, in natural order."""
        return [group for group, name in self.split_of_group.items() if name == split]

    @property
    def deviations(self) -> Shares:
        """How far a class's share of a split is from its share of the whole, relative to the latter.

        Returns:
            (num_splits, num_classes) float64: 0 as in the whole, -1 if the class is missing; NaN if a split is
            empty or a class occurs nowhere.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            of_split = self.num_px / self.num_px.sum(axis=1, keepdims=True)
            of_whole = self.num_px.sum(axis=0) / self.num_px.sum()
            return np.asarray(of_split / of_whole - 1, np.float64)

    @property
    def missing(self) -> dict[str, list[int]]:
        """The classes, by index, of which a split has no pixel."""
        return {split: np.flatnonzero(row == 0).tolist() for split, row in zip(self.splits, self.num_px, strict=True)}


def propose_split(num_px: Counts, groups: Sequence[str], shares: Mapping[str, float], seed: int = 0) -> Proposal:
    """Deals whole groups to train, val and test.

    In this order: no split is empty, train has every class, and each split has its share of the samples and of each
    class's pixels, and a missing class counts several times as much as a scarce one.
    Every draw is a hash, sums are of whole numbers, and costs are compared to six decimals: the same input gives the
    same splits on any machine, in any order of the samples.

    Args:
        num_px: (num_samples, num_classes) int64 labelled pixels.
        groups: the group of each sample, at least one.
        shares: of the samples, for `val` and, if there is one, `test`; together less than 1.
        seed: another one may find another split that is about as good.

    Returns:
        The best of several starts.
    """
    splits = (TRAIN, *(name for name in (VAL, TEST) if name in shares))
    wanted = np.array([1 - sum(shares.values()), *(shares[name] for name in splits[1:])])
    names = sorted(set(groups), key=order_naturally)
    content = _count_content(num_px, groups, names)
    goal = _Goal(splits, wanted, content.sum(axis=0))
    place = {name: index for index, name in enumerate(names)}
    best: tuple[float, Counts] | None = None
    for start in range(NUM_STARTS if len(names) <= MAX_SWAP_GROUPS else 1):
        order = np.array([place[name] for name in order_by_chance(names, f"{seed}/{start}")])
        dealt = _Dealing(goal, content[order])
        dealt.deal(_rarest_first(content[order]) if start == 0 else np.arange(len(names)))
        dealt.improve()
        cost = round(float(goal.cost_of(dealt.held).sum()), 6)
        if best is None or cost < best[0]:
            split_of = np.empty(len(names), np.int64)
            split_of[order] = dealt.split_of
            best = cost, split_of
    assert best is not None
    held = np.stack([content[best[1] == index].sum(axis=0) for index in range(len(splits))])
    return Proposal(
        splits,
        tuple(wanted.tolist()),
        {name: splits[index] for name, index in zip(names, best[1], strict=True)},
        tuple(int((best[1] == index).sum()) for index in range(len(splits))),
        tuple(held[:, -1].tolist()),
        held[:, :-1],
        (content[:, :-1] > 0).sum(axis=0),
    )


def _count_content(num_px: Counts, groups: Sequence[str], names: Sequence[str]) -> Counts:
    """Sums up each group: (num_groups, num_classes + 1) pixels of each class, and in the last column its samples."""
    index = pd.Index(names).get_indexer(pd.Index(groups))
    content = np.zeros((len(names), num_px.shape[1] + 1), np.int64)
    np.add.at(content, index, np.column_stack([num_px, np.ones(len(groups), np.int64)]))
    return content


def _rarest_first(content: Counts) -> npt.NDArray[np.int64]:
    """Orders groups: those with the class that occurs in the fewest groups, the one with most of it before others."""
    order: dict[int, None] = {}
    num_groups = (content[:, :-1] > 0).sum(axis=0)
    for column in np.argsort(num_groups, kind="stable"):
        having = np.flatnonzero(content[:, column])
        order |= dict.fromkeys(having[np.argsort(-content[having, column], kind="stable")].tolist())
    order |= dict.fromkeys(range(len(content)))
    return np.array(list(order), np.int64)


class _Goal:
    """What each split is to hold, and the cost of other contents."""

    def __init__(self, splits: tuple[str, ...], wanted: Shares, total: Counts) -> None:
        self.wanted = wanted
        self._occurs = total > 0
        self._total = np.where(self._occurs, total, 1)
        # The samples weigh as much as all classes together.
        self._weights = np.where(self._occurs, 1.0, 0.0) / max(1, self._occurs[:-1].sum())
        self._weights[-1] = 1.0
        self._missing = np.array([UNTRAINED_COST if name == TRAIN else UNMEASURED_COST for name in splits])
        self._missing /= max(1, self._occurs[:-1].sum())
        self._empty = np.array([EMPTY_COST[name] for name in splits])

    def cost(self, held: Counts, split: npt.NDArray[np.int64] | int) -> Shares:
        """Gives the cost of splits with these contents.

        Args:
            held: (..., num_classes + 1) int64 pixels and samples.
            split: index of the split, (...) or one for all.
        """
        wanted = self.wanted[split]
        distance = (held / self._total - np.expand_dims(wanted, -1)) ** 2 @ self._weights / wanted
        num_missing = ((held[..., :-1] == 0) & self._occurs[:-1]).sum(axis=-1)
        cost = distance + num_missing * self._missing[split] + (held[..., -1] == 0) * self._empty[split]
        return np.asarray(cost, np.float64)

    def cost_of(self, held: Counts) -> Shares:
        """Gives the cost of each split, where `held` has a row for each."""
        return self.cost(held, np.arange(len(self.wanted)))


class _Dealing:
    """Groups that are being dealt to splits.

    Args:
        goal: what is wanted.
        content: (num_groups, num_classes + 1) int64 pixels and samples of each group.
    """

    def __init__(self, goal: _Goal, content: Counts) -> None:
        self._goal, self._content = goal, content
        self._num_splits = len(goal.wanted)
        self.split_of = np.full(len(content), -1, np.int64)
        self.held = np.zeros((self._num_splits, content.shape[1]), np.int64)

    def deal(self, order: npt.NDArray[np.int64]) -> None:
        """Gives each group, in this order, to the split where that costs least."""
        splits = np.arange(self._num_splits)
        costs = self._goal.cost_of(self.held)
        for group in order:
            after = self._goal.cost(self.held + self._content[group], splits)
            split = int((after - costs).round(6).argmin())
            self.split_of[group] = split
            self.held[split] += self._content[group]
            costs[split] = after[split]

    def improve(self) -> None:
        """Moves groups, and swaps two if no move helps, until nothing helps."""
        while self._move_best() or (len(self._content) <= MAX_SWAP_GROUPS and self._swap_first()):
            pass

    def _move_best(self) -> bool:
        """Makes the one move that lowers the cost most."""
        now = self._goal.cost_of(self.held)
        leaving = self._goal.cost(self.held[self.split_of] - self._content, self.split_of) - now[self.split_of]
        gains = np.zeros((self._num_splits, len(self._content)))
        for split in range(self._num_splits):
            entering = self._goal.cost(self.held[split] + self._content, split) - now[split]
            gains[split] = np.where(self.split_of == split, 0.0, -(leaving + entering))
        split, group = divmod(int(gains.round(6).argmax()), len(self._content))
        if gains[split, group] < MIN_GAIN:
            return False
        self._move(group, split)
        return True

    def _move(self, group: int, split: int) -> None:
        self.held[self.split_of[group]] -= self._content[group]
        self.held[split] += self._content[group]
        self.split_of[group] = split

    def _swap_first(self) -> bool:
        """Swaps the first group whose swap lowers the cost, with the best partner."""
        now = self._goal.cost_of(self.held)
        for group, here in enumerate(self.split_of):
            others = np.flatnonzero(self.split_of != here)
            if others.size == 0:
                return False
            there = self.split_of[others]
            change = self._content[others] - self._content[group]
            after = self._goal.cost(self.held[here] + change, int(here)) + self._goal.cost(
                self.held[there] - change, there
            )
            gains = now[here] + now[there] - after
            best = int(gains.round(6).argmax())
            if gains[best] >= MIN_GAIN:
                split = int(there[best])
                self._move(int(others[best]), int(here))
                self._move(group, split)
                return True
        return False


def find_limits(proposal: Proposal, class_names: Sequence[str]) -> list[str]:
    """Says which goals were not reached, and what was done instead; one sentence each.

    Args:
        proposal: the groups and their splits.
        class_names: one a class.
    """
    limits = []
    num_groups, num_samples = sum(proposal.num_groups), sum(proposal.num_samples)
    if num_groups < len(proposal.splits):
        limits.append(f"There are {num_groups} groups for {len(proposal.splits)} splits: label more, or group finer.")
    counts = zip(proposal.splits, proposal.num_samples, proposal.wanted, strict=True)
    for split, count, wanted in counts:
        if count == 0:
            limits.append(f"Split {split} is empty: no group is left for it.")
        elif abs(count / num_samples - wanted) > max(0.02, 0.2 * wanted):
            limits.append(
                f"Split {split} has {count / num_samples:.1%} of the samples, not {wanted:.1%}: no choice of whole "
                "groups comes nearer without a greater loss elsewhere."
            )
    for index, name in enumerate(class_names):
        limits += _limit_of_class(proposal, index, name)
    return limits


def _limit_of_class(proposal: Proposal, index: int, name: str) -> list[str]:
    used = [split for split, count in zip(proposal.splits, proposal.num_samples, strict=True) if count]
    without = [split for split in used if index in proposal.missing[split]]
    num_groups = int(proposal.num_groups_of_class[index])
    if num_groups == 0:
        return [f"Class {name} occurs nowhere: label some, or remove it from the class table."]
    if not without:
        return []
    having = next(split for split in used if split not in without)
    if num_groups == 1:
        return [f"Class {name} occurs in one group only, which is in {having}: {' and '.join(without)} cannot have it."]
    reason = "too few for all splits" if num_groups < len(proposal.splits) else "which fit better elsewhere"
    return [f"Class {name} is missing in {' and '.join(without)}: it occurs in {num_groups} groups, {reason}."]


def tie_groups(manifest: pd.DataFrame) -> list[str]:
    """Unites groups that hold the same image, or images that look alike.

    Compares only fingerprints, no pixels are read; images of nearly one colour are left out.

    Args:
        manifest: one row a sample, with `group` and `perceptual_hash`.

    Returns:
        For each sample the first name, in natural order, of the groups that are united with its own.
    """
    vectors, contrasts = read_fingerprints(manifest["perceptual_hash"].tolist())
    names = sorted(set(manifest["group"]), key=order_naturally)
    group = pd.Index(names).get_indexer(pd.Index(manifest["group"]))
    with_contrast = np.flatnonzero(contrasts >= MIN_CONTRAST)
    alike = find_alike(vectors, group, with_contrast, with_contrast, MIN_TIED_AGREEMENT) if with_contrast.size else ()
    first, second = np.array([group[list(pair)] for *pair, _ in alike], np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    _, labels = connected_components(links, directed=False)
    _, first_member = np.unique(labels, return_index=True)
    return [names[first_member[labels[index]]] for index in group]
