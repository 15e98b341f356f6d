"""How large each model is, as its own file says, and how its options change it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segpipe.registry import MODELS


def _num_parameters(name: str, num_classes: int, **options: int) -> int:
    with torch.device("meta"):
        module: nn.Module = MODELS.call(name, options, num_classes=num_classes)
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"), [("unet", 2, 31.0e6), ("compact_fpn", 11, 2.03e6)], ids=["unet", "compact_fpn"]
)
def test_number_of_parameters(name: str, num_classes: int, expected: float) -> None:
    assert _num_parameters(name, num_classes) == pytest.approx(expected, rel=0.01)


def test_options_make_a_smaller_unet() -> None:
    # Width 1, depth 1, 2 classes. Convolutions 3*1*9 + 1*1*9, 1*2*9 + 2*2*9, up 2*1*4 + 1, merge 2*1*9 + 1*1*9,
    # head 1*2 + 2; batch norms 2 + 2, 4 + 4, 2 + 2.
    assert _num_parameters("unet", 2, width=1, depth=1) == 36 + 54 + 9 + 27 + 4 + 16


@pytest.mark.parametrize("depth", [1, 6])
def test_unet_of_any_depth_keeps_odd_sizes(depth: int) -> None:
    module = MODELS.call("unet", {"width": 2, "depth": depth}, num_classes=3).eval()
    with torch.inference_mode():
        assert module(torch.zeros(1, 3, 33, 47)).shape == (1, 3, 33, 47)
