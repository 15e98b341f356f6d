"""Work ahead of its reader."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from segpipe.prediction.ahead import Task, run_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Two threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize(
    ("max_tasks", "max_px", "ahead"),
    # Pixels are 1, 2, 3, ...: with 6 there is room for 1 + 2 + 3; a task that is too large runs alone.
    [(3, 100, 3), (1, 100, 1), (100, 6, 3), (100, 0, 1)],
)
def test_results_are_in_order_and_what_is_held_is_bounded(
    pool: ThreadPoolExecutor, max_tasks: int, max_px: int, ahead: int
) -> None:
    taken = []

    def tasks() -> Iterator[Task[int]]:
        for number in range(10):
            taken.append(number)
            yield pool, number + 1, partial(int, number)

    results = run_ahead(tasks(), max_tasks, max_px)
    assert next(results) == 0
    assert len(taken) == ahead + 1  # the last one waits for room
    assert list(results) == list(range(1, 10))


def test_an_error_is_raised_in_its_turn(pool: ThreadPoolExecutor) -> None:
    results = run_ahead(((pool, 1, partial(int, text)) for text in ("1", "x", "3")), 3, 100)
    assert next(results) == 1
    with pytest.raises(ValueError, match="'x'"):
        next(results)
