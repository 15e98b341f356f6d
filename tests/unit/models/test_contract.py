"""The contract of every model that the registry finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from model_contract import CHECKS, list_models


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("name", list_models())
def test_contract(name: str, check: Callable[[str], None]) -> None:
    check(name)
