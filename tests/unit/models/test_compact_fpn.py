"""How large the compact pyramid network is, as its file says, and how its options change it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segpipe.choices import MODELS


def _num_parameters(**options: int) -> int:
    with torch.device("meta"):
        module: nn.Module = MODELS.call("compact_fpn", options, num_classes=11, in_channels=3)
    return sum(parameter.numel() for parameter in module.parameters())


def test_number_of_parameters() -> None:
    assert _num_parameters() == pytest.approx(2.03e6, rel=0.01)


def test_options_make_it_smaller() -> None:
    assert _num_parameters(width=8) < _num_parameters(width=16) < _num_parameters()
    assert _num_parameters(pyramid_width=8) < _num_parameters()
