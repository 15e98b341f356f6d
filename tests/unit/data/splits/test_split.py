"""Groups and splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.config.preprocess import Split
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.source import RawSample
from segpipe.data.splits.split import assign_splits, find_groups, order_naturally

FILE = Path("x.png")
LABEL = IndexMask(FILE, {0: 0})


def _samples(**counts: int) -> list[RawSample]:
    return [RawSample(f"{group}_{i}", FILE, LABEL) for group, count in counts.items() for i in range(count)]


def _assign(samples: list[RawSample], seed: int = 0, **rules: object) -> tuple[dict[str, str], list[str]]:
    """The split of each group, and the kinds of the problems."""
    groups, _ = find_groups(samples, "^([^_]+)_")
    splits, problems = assign_splits(samples, groups, Split.model_validate(rules), seed)
    by_group = dict(zip(groups, splits, strict=True))
    assert [by_group[group] for group in groups] == splits, "a group stands in two splits"
    return by_group, [problem.kind for problem in problems]


def test_groups_are_found_in_the_id() -> None:
    groups, problems = find_groups(_samples(a=2, b=1), "^([^_]+)_")
    assert groups == ["a", "a", "b"]
    assert problems == []


def test_an_id_without_the_pattern_is_a_problem() -> None:
    _, (problem,) = find_groups([RawSample("nothing", FILE, LABEL)], "^([^_]+)_")
    assert (problem.kind, problem.where) == ("group-missing", "nothing")


def test_a_pattern_whose_group_takes_no_part_is_a_problem() -> None:
    groups, (problem,) = find_groups([RawSample("b_1", FILE, LABEL)], "(a)?b")
    assert groups == [""]
    assert problem.kind == "group-missing"


def test_groups_are_found_in_a_column() -> None:
    samples = [RawSample(f"s{i}", FILE, LABEL, attributes={"patient": name}) for i, name in enumerate("xyx")]
    assert find_groups(samples, None, "patient") == (["x", "y", "x"], [])


def test_an_empty_cell_is_a_problem() -> None:
    samples = [RawSample("a", FILE, LABEL, attributes={"patient": "x"}), RawSample("b", FILE, LABEL)]
    _, (problem,) = find_groups(samples, None, "patient")
    assert (problem.kind, problem.where) == ("group-missing", "b")
    assert problem.fix == "Fill in the column 'patient' of the source's table"


@pytest.mark.parametrize(
    ("attributes", "fix"),
    [
        ({"patient": "x", "age": "3"}, "There are: age, patient"),
        ({}, "The source has no table: give group_pattern instead"),
    ],
)
def test_an_unknown_column_is_one_problem(attributes: dict[str, str], fix: str) -> None:
    samples = [RawSample(f"s{i}", FILE, LABEL, attributes=attributes) for i in range(3)]
    _, (problem,) = find_groups(samples, None, "pateint")
    assert (problem.kind, problem.where, problem.fix) == ("group-missing", "preprocess.group_column", fix)


def test_without_pattern_and_column_groups_are_the_sources_or_single_samples() -> None:
    samples = [RawSample("a", FILE, LABEL, group="g"), RawSample("b", FILE, LABEL)]
    assert find_groups(samples, None) == (["g", "b"], [])


def test_the_natural_order_counts() -> None:
    names = ["a10", "a9", "a", "b1_2", "10", "9", "a09", "", "b1_10"]
    assert sorted(names, key=order_naturally) == ["", "9", "10", "a", "a09", "a9", "a10", "b1_2", "b1_10"]


def test_named_groups_are_kept_out_and_the_rest_trains() -> None:
    splits, problems = _assign(_samples(a=3, b=2, c=1), val=["b"], test=["c"])
    assert splits == {"a": "train", "b": "val", "c": "test"}
    assert problems == []


def test_an_unknown_group_is_a_problem() -> None:
    assert _assign(_samples(a=3, b=2), val=["b", "z"])[1] == ["group-unknown"]


def test_a_group_in_both_rules_belongs_to_test_and_is_reported() -> None:
    splits, problems = _assign(_samples(a=3, b=2, c=1), val=["b", "c"], test=["b"])
    assert splits == {"a": "train", "b": "test", "c": "val"}
    assert problems == ["group-unknown"]


@pytest.mark.parametrize(("rules", "empty"), [({"val": ["a", "b"]}, "train"), ({"val": 0.01}, "val")])
def test_an_empty_split_is_a_problem(rules: dict[str, object], empty: str) -> None:
    samples = _samples(a=10, b=10)
    groups, _ = find_groups(samples, "^([^_]+)_")
    _, (problem,) = assign_splits(samples, groups, Split.model_validate(rules), 0)
    assert (problem.kind, problem.where) == ("split-empty", f"split {empty}")


def test_the_source_may_give_the_splits() -> None:
    official = ["train", "val", "test", None]
    samples = [RawSample(f"a_{i}", FILE, LABEL, split) for i, split in enumerate(official)]
    rules = Split.model_validate({"val": "source", "test": "source"})
    splits, problems = assign_splits(samples, ["a"] * 4, rules, 0)
    assert splits == ["train", "val", "test", "train"]
    assert problems == []


def test_a_source_without_splits_leaves_the_split_empty() -> None:
    assert _assign(_samples(a=2), val="source")[1] == ["split-empty"]


@pytest.mark.parametrize("seed", range(5))
def test_a_share_is_taken_in_whole_groups_about_as_large(seed: int) -> None:
    samples = _samples(**{f"g{i:02d}": 5 for i in range(40)})
    splits, problems = _assign(samples, seed, val=0.2, test=0.25)
    counts = {name: list(splits.values()).count(name) for name in ("train", "val", "test")}
    # 50 of 200 samples are ten groups; of the 30 left, a fifth are six.
    assert counts == {"test": 10, "val": 6, "train": 24}
    assert problems == []


def test_the_draw_depends_on_the_seed_alone() -> None:
    samples = _samples(**{f"g{i}": 3 for i in range(30)})
    assert _assign(samples, 1, val=0.3)[0] == _assign(samples[::-1], 1, val=0.3)[0]
    assert _assign(samples, 1, val=0.3)[0] != _assign(samples, 2, val=0.3)[0]


def test_a_new_group_hardly_moves_the_old_ones() -> None:
    old = _samples(**{f"g{i}": 3 for i in range(50)})
    before = _assign(old, val=0.3)[0]
    after = _assign(old + _samples(new=3), val=0.3)[0]
    assert sum(before[group] != after[group] for group in before) <= 1


def test_groups_of_unequal_size_come_as_near_as_they_can() -> None:
    samples = _samples(big=80, a=10, b=10)
    splits, _ = _assign(samples, val=0.1)
    assert splits["big"] == "train"
    assert sorted([splits["a"], splits["b"]]) == ["train", "val"]
