"""Every model predicts a pixel from what lies around it, wherever the image begins: tiles equal the whole image."""

from __future__ import annotations

import pytest
from model_contract import build, list_models, place_differences, trained_by_statistics

pytestmark = pytest.mark.zoo
# Differences to the whole image, as shares of the logits' spread, and what they come from.
TOLERATED = {
    "deeplabv3_mobilenet_v3_large": (3.0, "the mean over the image is two thirds of its random logits"),
    "deeplabv3_resnet101": (3.0, "rates of 36 cells of 8 px reach beyond the tile"),
    "deeplabv3_resnet50": (3.0, "rates of 36 cells of 8 px reach beyond the tile"),
    "dpt": (1.0, "its position embedding is stretched to the image"),
    "fpn": (0.1, "group norms take their statistics from the whole map"),
}
TOLERANCE = 0.02


@pytest.mark.parametrize("name", list_models())
def test_a_tile_has_the_logits_of_the_whole_and_a_shift_shifts_them(name: str) -> None:
    tolerance, _ = TOLERATED.get(name, (TOLERANCE, ""))
    in_tile, shifted = place_differences(trained_by_statistics(build(name)), tile_px=768, whole_px=1152)
    assert in_tile < tolerance
    assert shifted < 2 * tolerance
