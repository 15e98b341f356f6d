"""Where the gates of the attention U-Net stand and what they see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segpipe.choices import MODELS
from segpipe.models.parts.attention.gate import AttentionGate


def _build(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = MODELS.call("attention_unet", options, num_classes=3, in_channels=3)
    return module


@torch.no_grad()
def test_gates_see_the_coarser_level_of_the_decoder_and_not_the_finest_skip() -> None:
    module = _build(width=4, depth=3).eval()
    seen = []
    for layer in module.modules():
        if isinstance(layer, AttentionGate):
            layer.register_forward_hook(lambda _, maps, __: seen.append([tuple(each.shape) for each in maps]))
    module(torch.randn(1, 3, 33, 47))
    assert seen == [[(1, 16, 9, 12), (1, 32, 5, 6)], [(1, 8, 17, 24), (1, 16, 9, 12)]]


@torch.no_grad()
def test_a_closed_gate_lets_nothing_of_its_skip_through() -> None:
    module = _build(width=4, depth=2).eval()
    (gate,) = (layer for layer in module.modules() if isinstance(layer, AttentionGate))
    nn.init.constant_(gate.weigh.bias, -1e9)
    maps = module.contract(torch.randn(1, 3, 32, 32))
    others = [maps[0], torch.randn_like(maps[1]), maps[2]]
    assert torch.equal(module.expand(maps)[0], module.expand(others)[0])
    nn.init.constant_(gate.weigh.bias, 0)
    assert not torch.equal(module.expand(maps)[0], module.expand(others)[0])


@pytest.mark.parametrize("up_sampling", ["transposed", "bilinear", "nearest"])
@torch.no_grad()
def test_any_up_sampling_keeps_odd_sizes(up_sampling: str) -> None:
    module = _build(width=2, depth=4, up_sampling=up_sampling).eval()
    assert module(torch.zeros(1, 3, 33, 47)).shape == (1, 3, 33, 47)


def test_deep_supervision_gives_the_coarser_levels_logits_in_training() -> None:
    module = _build(width=2, depth=3, deep_supervision=True, dropout=0.5)
    outputs = module(torch.randn(2, 3, 33, 47))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 3, 33, 47)] * 3
    assert isinstance(module.eval()(torch.randn(1, 3, 33, 47)), torch.Tensor)
