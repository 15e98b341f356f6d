"""Proposed splits: their shares, goals that cannot be reached, and the same split for the same input."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from facts import missing
from sklearn.model_selection import StratifiedGroupKFold

from segpipe.data.inspection.fingerprint import fingerprint
from segpipe.data.splits.proposal import Proposal, find_limits, propose_split, tie_groups

SHARES = {"val": 0.15, "test": 0.15}
SPLITS = ("train", "val", "test")


def _sequences(num_groups: int, num_classes: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Groups of 3 to 20 samples; the last classes occur in few groups."""
    rng = np.random.default_rng(seed)
    num_px, groups = [], []
    for group in range(num_groups):
        occurs = rng.random(num_classes) < np.linspace(1, 0.3, num_classes)
        usual = rng.lognormal(0, 1, num_classes) * np.geomspace(1, 0.01, num_classes) * occurs
        for _ in range(rng.integers(3, 21)):
            num_px.append((10_000 * usual * rng.uniform(0.5, 1.5, num_classes)).astype(np.int64))
            groups.append(f"g{group}")
    return np.array(num_px), groups


def _distance(num_px: np.ndarray, splits: np.ndarray) -> tuple[float, int]:
    """How far portions of pixels and samples are from the shares, and how many classes some split lacks."""
    wanted = {"train": 0.7, **SHARES}
    portions = [num_px[splits == name].sum(axis=0) / num_px.sum(axis=0) for name in SPLITS]
    far = [np.abs(portion - wanted[name]).mean() / wanted[name] for portion, name in zip(portions, SPLITS, strict=True)]
    samples = [abs((splits == name).mean() - wanted[name]) / wanted[name] for name in SPLITS]
    return float(np.mean(far) + np.mean(samples)), int(sum((portion == 0).sum() for portion in portions))


def _splits_of(proposal: Proposal, groups: list[str]) -> np.ndarray:
    return np.array([proposal.split_of_group[group] for group in groups])


def test_what_a_proposal_says_by_hand() -> None:
    num_px = np.array([[60, 0], [20, 20], [20, 0], [10, 10]])
    proposal = propose_split(num_px, ["a", "a", "b", "c"], {"val": 0.25})
    assert proposal.splits == ("train", "val")
    assert proposal.wanted == (0.75, 0.25)
    # Class 1 must be trained and measured, so c (one sample of four) or a is kept out: c costs less.
    assert proposal.split_of_group == {"a": "train", "b": "train", "c": "val"}
    assert proposal.groups_of("train") == ["a", "b"]
    assert (proposal.num_groups, proposal.num_samples) == ((2, 1), (3, 1))
    assert proposal.num_px.tolist() == [[100, 20], [10, 10]]
    assert proposal.num_groups_of_class.tolist() == [3, 2]
    # Of the whole 110/140 and 30/140; of train 100/120 and 20/120; of val one half each.
    expected = [[100 / 120 * 140 / 110 - 1, 20 / 120 * 140 / 30 - 1], [0.5 * 140 / 110 - 1, 0.5 * 140 / 30 - 1]]
    np.testing.assert_allclose(proposal.deviations, expected)
    assert proposal.missing == {"train": [], "val": []}
    assert find_limits(proposal, ["road", "car"]) == []


def test_even_groups_are_dealt_evenly() -> None:
    num_px = np.tile([[100, 10, 1]], (40, 1))
    proposal = propose_split(num_px, [f"g{i // 2}" for i in range(40)], SHARES)
    assert proposal.num_groups == (14, 3, 3)
    np.testing.assert_allclose(proposal.deviations, 0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The least populated class in y")  # scikit-learn's
@pytest.mark.parametrize("seed", range(4))
def test_no_worse_than_scikit_learn_and_better_than_chance(seed: int) -> None:
    num_px, groups = _sequences(40, 8, seed)
    ours = _distance(num_px, _splits_of(propose_split(num_px, groups, SHARES), groups))
    # Its labels are single: the rarest class that a sample has. A fold of 7 is about 15%.
    rarest = np.array([np.flatnonzero(row)[-1] for row in num_px])
    folds = np.empty(len(groups), np.int64)
    for fold, (_, held) in enumerate(
        StratifiedGroupKFold(7, shuffle=True, random_state=0).split(num_px, rarest, groups)
    ):
        folds[held] = fold
    theirs = _distance(num_px, np.select([folds == 0, folds == 1], ["val", "test"], "train"))
    names = sorted(set(groups))
    rng = np.random.default_rng(seed)
    chance = []
    for _ in range(50):
        dealt = dict(zip(names, rng.choice(SPLITS, len(names), p=[0.7, 0.15, 0.15]), strict=True))
        chance.append(_distance(num_px, np.array([dealt[group] for group in groups])))
    assert ours[0] < 0.5 * theirs[0]
    assert ours[0] < min(distance for distance, _ in chance)
    assert ours[1] <= min(theirs[1], *(num_missing for _, num_missing in chance))


@pytest.mark.parametrize("seed", range(6))
def test_few_groups_are_dealt_as_well_as_by_trying_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from segpipe.data.splits import proposal as module

    num_px, groups = _sequences(8, 4, seed)
    costs = []

    class Goal(module._Goal):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            costs.append(self)

    monkeypatch.setattr(module, "_Goal", Goal)
    found = propose_split(num_px, groups, SHARES)
    names = list(found.split_of_group)
    content = module._count_content(num_px, groups, names)

    def cost(dealt: tuple[int, ...]) -> float:
        held = np.stack([content[np.array(dealt) == split].sum(axis=0) for split in range(3)])
        return float(costs[0].cost_of(held).sum())

    least = min(map(cost, itertools.product(range(3), repeat=len(names))))
    ours = tuple(SPLITS.index(found.split_of_group[name]) for name in names)
    assert cost(ours) == pytest.approx(least, abs=1e-5)


def test_the_same_splits_in_any_order_of_samples() -> None:
    num_px, groups = _sequences(25, 6, 0)
    order = np.random.default_rng(1).permutation(len(groups))
    first = propose_split(num_px, groups, SHARES, seed=3)
    second = propose_split(num_px[order], [groups[i] for i in order], SHARES, seed=3)
    assert first.split_of_group == second.split_of_group


def test_these_splits_with_any_version_of_any_library() -> None:
    num_px = np.array([[100 + 37 * i % 50, 13 * i % 7, 5 if i % 4 == 0 else 0] for i in range(20)])
    proposal = propose_split(num_px, [f"g{i}" for i in range(20)], SHARES)
    assert (proposal.groups_of("val"), proposal.groups_of("test")) == (["g4", "g11", "g18"], ["g2", "g12", "g19"])


def test_a_class_of_one_group_is_trained_and_named() -> None:
    num_px, groups = _sequences(12, 3, 0)
    rare = np.array([5 if group == "g3" else 0 for group in groups])
    proposal = propose_split(np.column_stack([num_px, rare]), groups, SHARES)
    assert proposal.split_of_group["g3"] == "train"
    assert proposal.missing == {"train": [], "val": [3], "test": [3]}
    assert proposal.deviations[1:, 3].tolist() == [-1, -1]
    limits = find_limits(proposal, ["a", "b", "c", "tram"])
    assert "Class tram occurs in one group only, which is in train: val and test cannot have it." in limits


def test_a_class_of_two_groups_is_trained_and_in_one_other_split() -> None:
    num_px, groups = _sequences(12, 3, 0)
    rare = np.array([5 if group in ("g3", "g5") else 0 for group in groups])
    proposal = propose_split(np.column_stack([num_px, rare]), groups, SHARES)
    assert sum(3 in missing for missing in proposal.missing.values()) == 1
    assert 3 not in proposal.missing["train"]
    (limit,) = [limit for limit in find_limits(proposal, ["a", "b", "c", "tram"]) if "tram" in limit]
    assert not missing(limit, "occurs", "2 groups")


def test_a_class_that_occurs_nowhere_is_named() -> None:
    proposal = propose_split(np.tile([[5, 0]], (10, 1)), list("abcdefghij"), SHARES)
    assert np.isnan(proposal.deviations[:, 1]).all()
    limits = find_limits(proposal, ["road", "tram"])
    assert "Class tram occurs nowhere: label some, or remove it from the class table." in limits


def test_two_groups_for_three_splits() -> None:
    proposal = propose_split(np.array([[5], [5], [5]]), ["a", "a", "b"], SHARES)
    assert proposal.split_of_group == {"a": "train", "b": "val"}
    limits = find_limits(proposal, ["road"])
    assert limits[0] == "There are 2 groups for 3 splits: label more, or group finer."
    assert "Split test is empty: no group is left for it." in limits
    assert any(limit.startswith("Split val has 33.3% of the samples, not 15.0%") for limit in limits)
    assert not any(limit.startswith("Class") for limit in limits)  # that test lacks it is said already


def test_a_single_group_trains() -> None:
    assert propose_split(np.array([[5], [5]]), ["a", "a"], SHARES).split_of_group == {"a": "train"}


def test_many_groups_are_dealt_by_moves_alone() -> None:
    rng = np.random.default_rng(0)
    num_px = (rng.lognormal(0, 2, (1000, 5)) * 100).astype(np.int64)
    proposal = propose_split(num_px, [f"s{i}" for i in range(1000)], SHARES)
    assert np.abs(proposal.deviations).max() < 0.02
    assert proposal.num_samples == pytest.approx((700, 150, 150), abs=5)


def test_groups_that_share_an_image_or_a_copy_are_tied() -> None:
    rng = np.random.default_rng(0)
    images = [np.kron(rng.integers(0, 256, (6, 6, 3), np.uint8), np.ones((9, 9, 1), np.uint8)) for _ in range(4)]
    blank = np.full((54, 54, 3), 9, np.uint8)
    rows = [
        ("g10", images[0]),
        ("g2", images[0]),  # the same
        ("g10", images[1]),
        ("g3", images[1][:, ::-1] // 2 + 40),  # a copy
        ("g4", images[2]),
        ("g5", blank),
        ("g6", blank),
        ("g7", images[3]),
    ]
    manifest = pd.DataFrame(
        {
            "group": [group for group, _ in rows],
            "perceptual_hash": [fingerprint(np.ascontiguousarray(image)) for _, image in rows],
        }
    )
    assert tie_groups(manifest) == ["g2", "g2", "g2", "g2", "g4", "g5", "g6", "g7"]


def test_blank_images_tie_no_groups() -> None:
    blank = fingerprint(np.full((54, 54, 3), 9, np.uint8))
    manifest = pd.DataFrame({"group": ["a", "b"], "perceptual_hash": [blank, blank]})
    assert tie_groups(manifest) == ["a", "b"]
