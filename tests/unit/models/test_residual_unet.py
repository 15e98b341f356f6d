"""The residual U-Net against its paper: blocks, sums across, and the order of up-sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models.parts.attention import ATTENTIONS
from segpipe.models.residual_unet import _BottleneckBlock, _SimpleBlock


def _build(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = MODELS.call("residual_unet", options, num_classes=3, in_channels=3)
    return module


def test_number_of_parameters_of_the_smallest_by_hand() -> None:
    module = MODELS.call("residual_unet", {"width": 1, "num_blocks": [1]}, num_classes=2, in_channels=3)
    # Batch norm 2 a channel. First 3*9 + 1; simple block 2 + 9; bottleneck block 2 + 1, 2 + 9, 2 + 4, shortcut 4 + 4;
    # to the skip 4 + 1; simple block 2 + 9; last convolution 2 + 9; head 2 + 2.
    assert sum(p.numel() for p in module.parameters()) == 28 + 11 + (3 + 11 + 6 + 8) + 5 + 11 + 11 + 4


def test_default_has_the_blocks_of_table_1() -> None:
    with torch.device("meta"):
        module = _build()
    assert [len(stage) for stage in (*module.down[1:], *module.up[:3])] == [3, 8, 10, 3, 10, 8, 3]
    assert sum(isinstance(layer, _BottleneckBlock) for layer in module.modules()) == 45
    assert sum(isinstance(layer, _SimpleBlock) for layer in module.modules()) == 2
    shapes = []
    for stage in (*module.down, *module.up):
        stage.register_forward_hook(lambda _, __, out: shapes.append((out.shape[1], out.shape[2])))
    module(torch.zeros(2, 3, 512, 512, device="meta"))
    down = [(32, 256), (128, 128), (256, 64), (512, 32), (1024, 16)]
    # Before the up-sampling, which the table counts into the blocks.
    up = [(512, 32), (256, 64), (128, 128), (32, 256), (32, 512)]
    assert shapes == down + up


def test_up_sampling_after_the_block_is_the_papers_within() -> None:
    torch.manual_seed(0)
    block, to_skip = _BottleneckBlock(6, 2, 1, dropout=0.0), nn.Conv2d(8, 4, 1)
    features = torch.randn(2, 6, 5, 7)
    first, second, (norm, relu, conv), _ = block.residual
    activated = relu(norm(second(first(features))))
    within = conv(F.interpolate(activated, scale_factor=2)) + block.shortcut(F.interpolate(features, scale_factor=2))
    ours = F.interpolate(to_skip(block(features)), scale_factor=2)
    torch.testing.assert_close(ours, to_skip(within))


@pytest.mark.parametrize(
    "block", [_SimpleBlock(8, 1, 0.0), _BottleneckBlock(8, 2, 1, 0.0)], ids=["simple", "bottleneck"]
)
@torch.no_grad()
def test_a_block_that_adds_nothing_is_the_identity(block: nn.Module) -> None:
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
    features = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(features), features)


@torch.no_grad()
def test_long_skips_are_added() -> None:
    module = _build(width=2, num_blocks=[1, 1]).eval()
    seen = {}
    watched = {"skip": module.first, "below": module.up[-2], "merged": module.refine[-1]}
    for name, layer in watched.items():
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.clone()}))
    module(torch.randn(1, 3, 33, 47))
    enlarged = seen["below"].repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :33, :47]
    torch.testing.assert_close(seen["merged"], seen["skip"] + enlarged)


@pytest.mark.parametrize(("num_simple_blocks", "num_blocks"), [(1, [1]), (2, [2, 1, 1, 1, 1])])
@torch.no_grad()
def test_any_number_of_stages_keeps_odd_sizes(num_simple_blocks: int, num_blocks: list[int]) -> None:
    module = _build(width=2, num_simple_blocks=num_simple_blocks, num_blocks=num_blocks).eval()
    assert len(module.down) == num_simple_blocks + len(num_blocks)
    assert module(torch.zeros(1, 3, 33, 47)).shape == (1, 3, 33, 47)


@pytest.mark.parametrize("name", ATTENTIONS.names())
def test_every_attention_block_has_its_place(name: str) -> None:
    plain, module = _build(width=4, num_blocks=[1]), _build(width=4, num_blocks=[1], attention=name)
    assert {key for key, _ in module.named_parameters()} - {key for key, _ in plain.named_parameters()}
    module(torch.randn(2, 3, 33, 47)).square().mean().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)option width: must be greater.*option num_blocks\.1: must be"):
        _build(num_blocks=[1, 0], width=0)
    with pytest.raises(ConfigError, match="option num_blocks"):
        _build(num_blocks=[])


def test_dropout_acts_in_training_alone() -> None:
    module, images = _build(width=2, num_blocks=[1], dropout=0.5), torch.randn(2, 3, 32, 32)
    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))


def test_deep_supervision_gives_the_coarser_levels_logits_in_training() -> None:
    module = _build(width=2, num_blocks=[1, 1], deep_supervision=True)
    outputs = module(torch.randn(2, 3, 33, 47))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 3, 33, 47)] * 3
    assert isinstance(module.eval()(torch.randn(1, 3, 33, 47)), torch.Tensor)
