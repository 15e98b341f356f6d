"""U-Net's options; the skeleton itself is tested with `parts/unet.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models.parts.attention import ATTENTIONS


def _build(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = MODELS.call("unet", options, num_classes=3, in_channels=3)
    return module


def test_number_of_parameters_of_the_smallest_by_hand() -> None:
    # Width 1, depth 1, 2 classes. Convolutions 3*1*9 + 1*1*9, 1*2*9 + 2*2*9, up 2*1*4 + 1, merge 2*1*9 + 1*1*9,
    # head 1*2 + 2; batch norms 2 + 2, 4 + 4, 2 + 2.
    module = MODELS.call("unet", {"width": 1, "depth": 1}, num_classes=2, in_channels=3)
    assert sum(p.numel() for p in module.parameters()) == 36 + 54 + 9 + 27 + 4 + 16


def test_without_batch_norm_convolutions_have_biases() -> None:
    module = MODELS.call("unet", {"width": 1, "depth": 1, "batch_norm": False}, num_classes=2, in_channels=3)
    assert sum(p.numel() for p in module.parameters()) == 36 + 54 + 9 + 27 + 4 + 8
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize("up_sampling", ["transposed", "bilinear", "nearest"])
@pytest.mark.parametrize("depth", [1, 6])
@torch.no_grad()
def test_any_depth_keeps_odd_sizes(depth: int, up_sampling: str) -> None:
    module = _build(width=1, depth=depth, up_sampling=up_sampling).eval()
    assert module(torch.zeros(1, 3, 33, 47)).shape == (1, 3, 33, 47)


@pytest.mark.parametrize("depth", [1, 4])
@torch.no_grad()
def test_unpadded_convolutions_give_logits_for_each_pixel(depth: int) -> None:
    module = _build(width=1, depth=depth, padding="valid").eval()
    for size in ((32, 32), (33, 47)):
        assert module(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


def test_valid_padding_refuses_up_sampling_that_pads() -> None:
    with pytest.raises(ConfigError, match=r"option up_sampling: 'nearest' needs values beyond .* 'transposed'"):
        _build(padding="valid", up_sampling="nearest")


@pytest.mark.parametrize("name", ATTENTIONS.names())
def test_every_attention_block_has_its_place(name: str) -> None:
    plain, module = _build(width=4, depth=2), _build(width=4, depth=2, attention=name)
    added = {key for key, _ in module.named_parameters()} - {key for key, _ in plain.named_parameters()}
    assert added
    module.train()(torch.randn(2, 3, 33, 47)).square().mean().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


def test_blocks_stand_on_each_merge_each_skip_and_the_deepest_map() -> None:
    def places(name: str) -> set[str]:
        keys = [key for key, _ in _build(width=8, depth=2, attention=name).named_parameters()]
        parts = ("refine.0", "refine.1", "gate.0", "gate.1", "deepest")
        return {part for part in parts if any(key.startswith(f"{part}.") for key in keys)}

    assert places("se") == {"refine.0", "refine.1"}
    assert places("gate") == {"gate.0", "gate.1"}
    assert places("dual") == {"deepest"}


def test_unknown_attention_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown attention block 'sce'.*'scse'"):
        _build(attention="sce")


def test_dropout_acts_in_training_alone() -> None:
    module, images = _build(width=2, depth=1, dropout=0.5, batch_norm=False), torch.randn(1, 3, 32, 32)
    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))


def test_dropout_is_on_the_two_last_levels() -> None:
    module = _build(width=2, depth=3, dropout=0.5)
    seen = []
    module.drop.register_forward_hook(lambda _, maps, __: seen.append(tuple(maps[0].shape)))
    module(torch.randn(2, 3, 32, 32))
    assert seen == [(2, 8, 8, 8), (2, 16, 4, 4)]


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_deep_supervision_gives_the_coarser_levels_logits_in_training(padding: str) -> None:
    module = _build(width=2, depth=3, deep_supervision=True, padding=padding)
    outputs = module(torch.randn(2, 3, 33, 47))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 3, 33, 47)] * 3
    sum(logits.square().mean() for logits in outputs).backward()
    assert all(head.weight.grad.any() for head in module.auxiliary)
    assert isinstance(module.eval()(torch.randn(1, 3, 33, 47)), torch.Tensor)


def test_deep_supervision_needs_a_coarser_level() -> None:
    with pytest.raises(ConfigError, match="option deep_supervision: there is no coarser level; set depth to 2 or more"):
        _build(width=1, depth=1, deep_supervision=True)
