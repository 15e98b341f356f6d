"""Properties that hold for all inputs of a kind: hypothesis looks for one for which they do not.

The inputs are the same in every run. `make test` tries a few of each, `make chaos` many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

NUM_MANY = 1000


def holds_for_all(
    num_few: int, **inputs: SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Turns a check of one input into a test of many.

    Args:
        num_few: inputs that `make test` tries, in a second or two.
        inputs: what to draw, one for each argument of the check.
    """

    def decorate(check: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("num_inputs", [num_few, pytest.param(NUM_MANY, marks=pytest.mark.slow)])
        def test(num_inputs: int) -> None:
            chosen = settings(
                max_examples=num_inputs,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            chosen(given(**inputs)(check))()

        test.__doc__ = check.__doc__
        return test

    return decorate
