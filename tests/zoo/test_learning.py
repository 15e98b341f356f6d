"""Every model learns four small crops by heart, of the starter data and, where it is there, of CamVid."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segpipe.models import list_models

pytestmark = pytest.mark.zoo
ROOT = Path(__file__).parents[2]


@functools.cache
def learning() -> ModuleType:
    """The benchmark, which also draws the pictures of docs/models.md."""
    spec = importlib.util.spec_from_file_location("learning", ROOT / "benchmarks/learning.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["learning"] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def crops_of(archive: Path | None) -> Any:
    return learning().starter_crops() if archive is None else learning().camvid_crops(archive)


@pytest.mark.parametrize("data", ["starter", "camvid"])
@pytest.mark.parametrize("name", list_models())
def test_a_model_learns_four_crops_by_heart(request: pytest.FixtureRequest, name: str, data: str) -> None:
    needed = request.getfixturevalue("camvid_archive" if data == "camvid" else "starter_folder")
    archive = needed if data == "camvid" else None
    outcome = learning().overfit(name, crops_of(archive))
    assert outcome.mean_iou >= learning().GOOD_ENOUGH, f"{outcome.mean_iou:.3f} after {outcome.num_steps} steps"
