"""When a challenger becomes the champion, by confusion matrices made by hand: classes of 100 px an image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segpipe.config.register import Register
from segpipe.errors import MAX_PROBLEMS_SHOWN, ConfigError, Problem
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.slices import Slice
from segpipe.registry.gate import Candidate, Decision, Delta, Figures, decide

Confusions = npt.NDArray[np.int64]
NAMES = ("road", "car")
SIX_GROUPS = ("a", "b", "c", "d", "e", "f")


def images(*num_right_px: int) -> Confusions:
    """An image for each number: so many of the 100 px of either class are right, which is an IoU of n / (200 - n)."""
    return np.array([[[n, 100 - n], [100 - n, n]] for n in num_right_px])


CHAMPION = images(*6 * [60])  # mIoU 60/140 = 0.4286
BETTER = images(*6 * [80])  # mIoU 80/120 = 0.6667
WORSE = images(*6 * [50])  # mIoU 50/150 = 0.3333
# Better on the whole (sum 420 of 600: IoU 420/780 = 0.5385), but on four videos of six only.
DOUBTFUL = images(95, 95, 95, 95, 20, 20)


def ask(
    challenger: Confusions | Candidate,
    champion: Confusions | Candidate | None = CHAMPION,
    groups: Sequence[str] = SIX_GROUPS,
    names: Sequence[str] = NAMES,
    problems: Sequence[Problem] = (),
    slices: Sequence[Slice] = (),
    **policy: Any,
) -> Decision:
    """Asks about version 4 against version 3, 10 MB each."""
    mine = challenger if isinstance(challenger, Candidate) else Candidate("4", confusions_of(challenger), 10.0)
    theirs = Candidate("3", confusions_of(champion), 10.0) if isinstance(champion, np.ndarray) else champion
    return decide(mine, theirs, names, groups, Register(model_name="m", **policy), problems, slices)


def figures_of(decision: Decision) -> Figures:
    assert decision.evidence is not None
    assert decision.evidence.figures is not None
    return decision.evidence.figures


def problem(kind: str, where: str = "somewhere") -> Problem:
    return Problem(kind, where, "is wrong", "Fix it")


# The first


def test_the_first_is_promoted_without_floors() -> None:
    decision = ask(images(0), None, ["a"])
    assert decision.promoted
    assert decision.reasons == ("There was no champion.",)
    assert decision.evidence is not None
    assert decision.evidence.to_json() == {"num_images": 1, "size_mb": 10.0, "latency_ms": None}


def test_the_first_is_promoted_where_it_clears_the_floors() -> None:
    assert ask(BETTER, None, min_mean_iou=0.66, min_class_iou={"car": 0.66}).promoted


def test_the_first_is_not_promoted_below_a_floor_and_hears_of_all_obstacles_at_once() -> None:
    first = Candidate("1", confusions_of(BETTER), 10.0, latency_ms=5.0)
    policy = {"min_mean_iou": 0.67, "min_class_iou": {"car": 0.7, "road": 0.6}}
    decision = ask(first, None, budget={"size_mb": 9.5, "latency_ms": 4.0, "slowdown": 1.1}, **policy)
    assert not decision.promoted
    assert decision.reasons == (
        "There is no champion, and this model cannot be one.",
        "mIoU 0.6667 is below 0.67 (register.min_mean_iou).",
        "Class car: IoU 0.6667 is below 0.7 (register.min_class_iou).",
        "10.0 MB of weights exceed 9.5 (register.budget.size_mb).",
        "5.0 ms an image exceed 4 (register.budget.latency_ms).",
    )


# By the interval


def test_better_beyond_chance() -> None:
    decision = ask(BETTER)
    assert decision.promoted
    assert decision.reasons == (
        "Better beyond chance: validation mIoU 0.6667 against 0.4286 of version 3 (+0.2381, 95% interval +0.2381 to "
        "+0.2381, better with probability 1.000, by 6 groups); the whole interval must be above 0.",
    )


@pytest.mark.parametrize("challenger", [WORSE, CHAMPION], ids=["worse", "as good"])
def test_not_better(challenger: Confusions) -> None:
    (reason,) = (decision := ask(challenger)).reasons
    assert not decision.promoted
    assert reason.startswith("Not better beyond chance: ")


def test_what_may_be_chance_is_not_promoted_by_the_interval_but_by_the_point() -> None:
    by_interval, by_point = ask(DOUBTFUL), ask(DOUBTFUL, better="point")
    assert not by_interval.promoted
    assert by_interval.reasons[0].startswith("Not better beyond chance: validation mIoU 0.5385 against 0.4286")
    figures = figures_of(by_interval)
    assert figures.delta.low is not None
    assert figures.probability is not None
    assert figures.delta.low < 0 < figures.delta.value == pytest.approx(420 / 780 - 60 / 140)
    assert 0.5 < figures.probability < 0.975
    assert by_point.promoted
    assert by_point.evidence == by_interval.evidence
    assert by_point.reasons[0].startswith("Better: validation mIoU 0.5385 against 0.4286 of version 3 (+0.1099, 95% ")


def test_frames_of_one_video_are_one_witness() -> None:
    """Thirty frames that all say the same, but of two videos that do not: frames taken one by one would be certain."""
    challenger = images(*15 * [95], *15 * [62])
    two_videos = ask(challenger, images(*30 * [60]), groups=15 * ["a"] + 15 * ["b"])
    assert not two_videos.promoted
    assert ask(challenger, images(*30 * [60]), groups=[f"video {i}" for i in range(30)]).promoted


def test_the_difference_must_exceed_the_delta() -> None:
    # The difference is 2/3 - 3/7 = 5/21 = 0.238095..., and nothing varies.
    assert ask(BETTER, min_delta=0.238).promoted
    decision = ask(BETTER, min_delta=0.239)
    assert not decision.promoted
    assert "interval must be above 0.239." in decision.reasons[0]


def test_the_reasons_say_that_few_units_are_little_evidence() -> None:
    groups = ["a", "a", "b", "b", "c", "c"]
    decision = ask(BETTER, groups=groups)
    assert decision.promoted  # nothing varies, so even three groups are enough
    (reason,) = decision.reasons[1:]
    assert "little evidence: 3 groups of validation images" in reason
    assert "`better: point` under `register`" in reason
    (reason,) = ask(BETTER, groups=groups, better="point").reasons[1:]
    assert "little evidence: 3 groups of validation images" in reason
    assert "better: point" not in reason


def test_blocks_of_a_sequence_are_said_to_be_weaker_evidence() -> None:
    one_video = {"groups": ["a"] * 6}
    assert "register.block_length" in ask(BETTER, **one_video).reasons[-1]
    assert "Blocks" not in " ".join(ask(BETTER, **one_video, better="point").reasons)
    assert "Blocks" not in " ".join(ask(BETTER).reasons)


def test_one_unit_gives_no_interval_and_no_promotion() -> None:
    decision = ask(images(90, 90, 90), images(60, 60, 60), groups=["a", "a", "a"])
    assert not decision.promoted
    assert "(+0.3896; 1 block gives no interval)" in decision.reasons[0]
    assert decision.reasons[1].startswith("That is little evidence: 1 block of validation images.")
    assert figures_of(decision).delta == Delta(pytest.approx(9 / 11 - 3 / 7))
    assert figures_of(decision).probability is None
    assert ask(images(90, 90, 90), images(60, 60, 60), groups=["a", "a", "a"], better="point").promoted


def test_the_policy_may_cut_videos_into_blocks() -> None:
    decision = ask(images(*6 * [90]), CHAMPION, groups=6 * ["a"], block_length=1)
    assert decision.promoted
    assert (figures_of(decision).kind, figures_of(decision).num_units) == ("block", 6)
    assert "by 6 blocks)" in decision.reasons[0]


# By the point


def test_the_point_rule() -> None:
    assert ask(images(*6 * [61]), better="point").promoted
    assert not ask(WORSE, better="point").promoted
    decision = ask(BETTER, better="point", min_delta=0.239)
    assert not decision.promoted
    assert decision.reasons[0].startswith("Not better: ")
    assert decision.reasons[0].endswith("; the difference must be above 0.239.")


@pytest.mark.parametrize(("version", "is_promoted"), [("2", True), ("10", False)])
def test_of_two_equal_models_the_one_registered_first_is_champion(version: str, is_promoted: bool) -> None:
    """The order of the decisions does not matter; version 10 is later than 3, though not as a text."""
    decision = ask(Candidate(version, confusions_of(CHAMPION), 10.0), better="point")
    assert decision.promoted is is_promoted
    assert "registered first" in decision.reasons[0]
    assert not ask(Candidate(version, confusions_of(CHAMPION), 10.0), better="point", min_delta=0.01).promoted
    assert not ask(Candidate(version, confusions_of(CHAMPION), 10.0)).promoted


# Classes


def three_classes(road: tuple[int, int, int], car: tuple[int, int, int], sky: tuple[int, int, int]) -> Confusions:
    """Six equal images; each row says as what the class's 100 px were predicted."""
    return np.array(6 * [[road, car, sky]])


def test_a_class_that_collapses_while_the_mean_rises_is_not_promoted_and_named() -> None:
    names = ("road", "car", "sky")
    champion = three_classes((50, 0, 50), (10, 90, 0), (50, 0, 50))  # IoU 50/160, 90/100, 50/150: mean 0.5153
    challenger = three_classes((100, 0, 0), (50, 50, 0), (0, 0, 100))  # IoU 100/150, 50/100, 1: mean 0.7222
    assert ask(challenger, champion, names=names).promoted
    assert ask(challenger, champion, names=names, max_class_drop=0.41).promoted
    decision = ask(challenger, champion, names=names, max_class_drop=0.1)
    assert not decision.promoted
    assert decision.reasons[0].startswith("Better beyond chance: validation mIoU 0.7222 against 0.5153")
    assert decision.reasons[1:] == (
        "Class car falls by 0.4000 to 0.5000: more than 0.1 (register.max_class_drop).",
    )  # fmt: skip
    assert figures_of(decision).class_deltas["car"].value == pytest.approx(-0.4)


RAIN = [Slice("weather", "rain", np.array([4, 5])), Slice("weather", "sun", np.array([0, 1, 2, 3]))]


def test_a_slice_that_falls_while_the_whole_rises_is_not_promoted_and_named() -> None:
    """In rain 20 of 100 px instead of 60: IoU 20/180 = 0.1111 instead of 60/140 = 0.4286."""
    assert ask(DOUBTFUL, better="point", slices=RAIN).promoted
    assert ask(DOUBTFUL, better="point", slices=RAIN, max_slice_drop=0.318).promoted
    decision = ask(DOUBTFUL, better="point", slices=RAIN, max_slice_drop=0.1)
    assert not decision.promoted
    (reason,) = (reason for reason in decision.reasons if "register.max_slice_drop" in reason)
    for fact in ("weather 'rain'", "2 images", "0.3175", "0.4286", "0.1111", "more than 0.1"):
        assert fact in reason


def test_of_many_slices_the_greatest_falls_are_named() -> None:
    slices = [Slice("site", str(number), np.array([number % 6])) for number in range(MAX_PROBLEMS_SHOWN + 5)]
    decision = ask(images(10, 40, 40, 40, 40, 40), slices=slices, max_slice_drop=0.0)
    named = [reason for reason in decision.reasons if reason.startswith("Slice")]
    assert len(named) == MAX_PROBLEMS_SHOWN
    assert "0.0526" in named[0]  # 10/190, the lowest
    assert "5 more slices" in decision.reasons[-1]


def test_a_slice_of_void_alone_says_nothing() -> None:
    void = np.concatenate([CHAMPION, np.zeros((1, 2, 2), np.int64)])
    better = np.concatenate([BETTER, np.zeros((1, 2, 2), np.int64)])
    slices = [Slice("site", "void", np.array([6]))]
    assert ask(better, void, groups=(*SIX_GROUPS, "g"), slices=slices, max_slice_drop=0.0).promoted


def test_a_floor_binds_whoever_is_better() -> None:
    decision = ask(BETTER, min_class_iou={"road": 0.7})
    assert not decision.promoted
    assert decision.reasons[1] == "Class road: IoU 0.6667 is below 0.7 (register.min_class_iou)."


def test_a_floor_of_a_class_without_labels_is_told_and_its_difference_left_out() -> None:
    names = ("road", "car", "bus")

    def without_bus(num_right_px: int) -> Confusions:
        n = num_right_px
        return np.array(6 * [[[n, 100 - n, 0], [100 - n, n, 0], [0, 0, 0]]])

    decision = ask(without_bus(80), without_bus(60), names=names, min_class_iou={"bus": 0.1})
    assert not decision.promoted
    assert decision.reasons[1] == "Class bus has no labelled pixel in validation, so its floor cannot be checked."
    assert figures_of(decision).class_deltas.keys() == {"road", "car"}


def test_a_floor_for_a_class_that_does_not_exist_is_a_mistake_in_the_parameters() -> None:
    expected = r"register\.min_class_iou: there is no class bus, tram; the classes are road, car"
    for champion in (CHAMPION, None):
        with pytest.raises(ConfigError, match=expected):
            ask(BETTER, champion, min_class_iou={"tram": 0.1, "car": 0.1, "bus": 0.1})


# Budgets


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"latency_ms": 29.0}, "30.0 ms an image exceed 29 (register.budget.latency_ms)."),
        ({"latency_ms": 30.0}, None),
        (
            {"slowdown": 1.4},
            "30.0 ms an image are 1.50 times the champion's 20.0 ms, more than 1.4 (register.budget.slowdown).",
        ),
        ({"slowdown": 1.5}, None),
        ({"size_mb": 7.5}, "8.0 MB of weights exceed 7.5 (register.budget.size_mb)."),
        ({"size_mb": 8.0}, None),
    ],
)
def test_a_budget(budget: dict[str, float], reason: str | None) -> None:
    decision = ask(
        Candidate("4", confusions_of(BETTER), 8.0, 30.0),
        Candidate("3", confusions_of(CHAMPION), 10.0, 20.0),
        budget=budget,
    )
    assert decision.promoted is (reason is None)
    assert decision.reasons[1:] == (() if reason is None else (reason,))
    assert decision.evidence is not None
    written = decision.evidence.to_json()
    figures = {name: written[name] for name in ("latency_ms", "champion_latency_ms", "size_mb")}
    assert figures == {"latency_ms": 30.0, "champion_latency_ms": 20.0, "size_mb": 8.0}


def test_a_budget_of_the_export_says_so() -> None:
    decision = ask(
        Candidate("4", confusions_of(BETTER), 8.0, 30.0),
        Candidate("3", confusions_of(CHAMPION), 10.0, 20.0),
        budget={"backend": "onnx", "latency_ms": 29.0, "slowdown": 1.4},
        export=["onnx"],
    )
    assert not decision.promoted
    assert decision.reasons[1].startswith("30.0 ms an image by the export to onnx exceed 29 ")
    assert decision.reasons[2].startswith(
        "30.0 ms an image by the export to onnx are 1.50 times the champion's 20.0 ms"
    )


# Problems of the data


def test_unresolved_problems_of_the_data_stop_a_promotion_and_accepted_ones_do_not() -> None:
    problems = [problem("leak-near", "a_001"), problem("leak-near", "a_007"), problem("class-absent", "bus")]
    decision = ask(BETTER, problems=problems)
    assert not decision.promoted
    assert decision.reasons[1:] == (
        "The data set's report warns of leak-near (2 times; the first: a_001). Fix it, or add leak-near to "
        "register.accepted_problems.",
        "The data set's report warns of class-absent (1 times; the first: bus). Fix it, or add class-absent to "
        "register.accepted_problems.",
    )
    assert len(ask(BETTER, problems=problems, accepted_problems=["leak-near"]).reasons) == 2
    assert ask(BETTER, problems=problems, accepted_problems=["leak-near", "class-absent"]).promoted
    assert ask(BETTER, None, problems=problems).promoted  # somebody has to be the first


# Everything


def test_all_obstacles_are_told_at_once() -> None:
    decision = ask(
        Candidate("4", confusions_of(WORSE), 12.0, 30.0),
        Candidate("3", confusions_of(CHAMPION), 10.0, 20.0),
        groups=["a", "a", "a", "b", "b", "b"],
        problems=[problem("leak-near")],
        min_mean_iou=0.34,
        min_class_iou={"car": 0.34},
        max_class_drop=0.05,
        budget={"latency_ms": 25.0, "slowdown": 1.2, "size_mb": 11.0},
    )
    assert not decision.promoted
    asked_of = ("Not better", "little evidence", "min_mean_iou", "min_class_iou", "size_mb", "latency_ms", "slowdown")
    drops = ("Class road falls", "Class car falls")
    for reason, words in zip(decision.reasons, (*asked_of, *drops, "leak-near"), strict=True):
        assert words in reason


@pytest.mark.parametrize("groups", [SIX_GROUPS, 6 * ["a"], ["a", *5 * ["b"]]], ids=["six", "one", "two"])
def test_the_evidence_is_plain_json(groups: Sequence[str]) -> None:
    champion = Candidate("3", confusions_of(CHAMPION), math.nan)  # as a version that somebody registered by hand
    decision = ask(DOUBTFUL, champion, groups=groups)
    assert decision.evidence is not None
    evidence = decision.evidence.to_json()
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert evidence["champion_size_mb"] is None
    assert evidence["delta"] == asdict(figures_of(decision).delta)
    assert {"mean_iou", "champion_mean_iou", "probability", "kind", "num_units", "class_deltas"} <= evidence.keys()
