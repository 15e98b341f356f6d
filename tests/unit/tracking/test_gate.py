"""When a challenger becomes the champion."""

from __future__ import annotations

import dataclasses

import pytest

from segpipe.tracking.gate import UNKNOWN, Candidate, decide

CHAMPION = Candidate("3", 0.5, "images", "classes")


def _challenger(**changes: object) -> Candidate:
    return dataclasses.replace(CHAMPION, version="4", **changes)  # type: ignore[arg-type]


def test_the_first_one_wins() -> None:
    decision = decide(_challenger(mean_iou=0.0), None, min_delta=0.5)
    assert decision.promoted
    assert decision.reasons == ("There was no champion.",)


@pytest.mark.parametrize(
    ("mean_iou", "min_delta", "promoted"),
    [
        (0.6, 0.0, True),
        (0.5, 0.0, False),  # as good is not better
        (0.4, 0.0, False),
        (0.625, 0.125, False),  # more than, not as much as
        (0.626, 0.125, True),
        (1.0, 0.5, False),
    ],
)
def test_better_by_more_than_the_delta(mean_iou: float, min_delta: float, promoted: bool) -> None:
    decision = decide(_challenger(mean_iou=mean_iou), CHAMPION, min_delta)
    assert decision.promoted is promoted
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith("Better: " if promoted else "Not better: ")


def test_the_reason_gives_the_figures() -> None:
    (reason,) = decide(_challenger(mean_iou=0.6123), CHAMPION, 0.01).reasons
    assert "validation mIoU 0.6123 against 0.5000 of version 3 (+0.1123, more than 0.01 asked)" in reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"class_table": "x"}, "Version 3, the champion, knows other classes"),
        ({"evaluation_digest": "x"}, "Version 3, the champion, was measured on other validation images"),
        ({"class_table": "x", "evaluation_digest": "x"}, "Version 3, the champion, knows other classes"),
    ],
)
def test_what_cannot_be_compared_is_not_promoted_however_good(changes: dict[str, str], reason: str) -> None:
    decision = decide(_challenger(mean_iou=1.0, **changes), CHAMPION, 0.0)
    assert not decision.promoted
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith(reason)


def test_a_champion_that_nothing_is_known_of_stays() -> None:
    unknown = dataclasses.replace(CHAMPION, evaluation_digest=UNKNOWN, class_table=UNKNOWN, mean_iou=0.0)
    for challenger in (_challenger(mean_iou=1.0), _challenger(mean_iou=1.0, evaluation_digest=UNKNOWN)):
        decision = decide(challenger, unknown, 0.0)
        assert not decision.promoted
        assert decision.reasons[0].startswith("Version 3, the champion, was not registered by segpipe")


def test_a_score_that_is_no_number_is_not_better() -> None:
    assert not decide(_challenger(mean_iou=float("nan")), CHAMPION, 0.0).promoted
