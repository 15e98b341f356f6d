"""The sets of `tests/own_data.py`."""

from pathlib import Path

import pytest
from own_data import SETS, draw_set


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all five sets; tests do not change it."""
    folder = tmp_path_factory.mktemp("own")
    for name in SETS:
        draw_set(name, folder)
    return folder
