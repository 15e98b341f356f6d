"""The contract of every attention block that the registry finds, and where networks get them from."""

from __future__ import annotations

import copy
import typing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.attention import (
    ATTENTIONS,
    Place,
    Refinement,
    deepest_block,
    local_block,
    place_of,
    skip_gate,
)

NAMES = ATTENTIONS.names()
LOCAL = ["cbam", "scse", "se", "spatial"]
GLOBAL = ["dual", "non_local"]
SIZES = [(8, 6), (5, 7), (1, 2), (1, 1)]


class _Block(nn.Module):
    """Any block, as one of features of 8 channels alone: what gates a skip is made of the skip."""

    def __init__(self, name: str, channels: int = 8) -> None:
        super().__init__()
        self.is_gate = place_of(name) == "skip"
        context = {"gating_channels": channels} if self.is_gate else {}
        self.block = ATTENTIONS.call(name, channels=channels, **context)

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        if self.is_gate:
            return self.block(features_NCHW, features_NCHW[:, :, ::2, ::2].flip(0))
        return self.block(features_NCHW)


def _build(name: str, channels: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return _Block(name, channels).eval()


def _features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_the_names() -> None:
    assert sorted([*LOCAL, *GLOBAL, "gate"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_says_its_place_and_its_source(name: str) -> None:
    assert place_of(name) in typing.get_args(Place)
    documentation = ATTENTIONS.module_of(name).__doc__ or ""
    assert "Source: " in documentation
    assert "Deviation" in documentation


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_keeps_the_shape_and_is_the_same_each_time(name: str, size: tuple[int, int]) -> None:
    block, features = _build(name), _features(1, 8, *size)
    before = features.clone()
    output = block(features)
    assert output.shape == features.shape
    assert output.isfinite().all()
    assert torch.equal(block(features), output)
    assert torch.equal(features, before), "the features were changed in place"
    assert not torch.equal(output, features)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch_in_evaluation(name: str) -> None:
    block, features = _build(name), _features(3, 8, 5, 7)
    if place_of(name) == "skip":
        gate, gating = block.block, _features(3, 8, 3, 4)
        torch.testing.assert_close(gate(features, gating)[1:2], gate(features[1:2], gating[1:2]))
    else:
        torch.testing.assert_close(block(features)[1:2], block(features[1:2]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [8, 16, 24, 64])
def test_every_parameter_gets_a_gradient(name: str, channels: int) -> None:
    block = _build(name, channels).train()
    block(_features(2, channels, 4, 4).relu()).square().sum().backward()
    assert list(block.parameters())
    for key, parameter in block.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # More than the rounding of a gradient that is zero.
        assert parameter.grad.abs().max() > 1e-4, key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    block = _build(name, channels=4).double()
    features = _features(2, 4, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: block(x), (features, *block.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_channels_last_gives_the_same(name: str) -> None:
    block, features = _build(name), _features(2, 8, 5, 7)
    expected = block(features)
    output = block.to(memory_format=torch.channels_last)(features.to(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected)
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_copy_and_a_file_give_the_same(name: str) -> None:
    block, features = _build(name), _features(1, 8, 5, 7)
    other = _Block(name).eval()
    other.load_state_dict(load(save(block.state_dict())))
    assert torch.equal(other(features), block(features))
    assert torch.equal(copy.deepcopy(block)(features), block(features))


@pytest.mark.parametrize("name", NAMES)
def test_can_be_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        block = _Block(name)
    assert all(parameter.is_meta for parameter in block.parameters())


def test_each_place_gets_its_blocks_alone() -> None:
    for name in [*NAMES, None]:
        is_local, is_global, is_gate = name in LOCAL, name in GLOBAL, name == "gate"
        assert isinstance(local_block(name, 8), nn.Identity) != is_local
        assert isinstance(deepest_block(name, 8), nn.Identity) != is_global
        assert bool(list(skip_gate(name, 8, 16).parameters())) == is_gate


def test_where_no_gate_belongs_the_skip_passes() -> None:
    skip = _features(1, 8, 4, 4)
    for name in ("se", "dual", None):
        assert skip_gate(name, 8, 16)(skip, _features(1, 16, 2, 2)) is skip


@pytest.mark.parametrize(
    "ask",
    [
        lambda name: local_block(name, 8),
        lambda name: deepest_block(name, 8),
        lambda name: skip_gate(name, 8, 16),
        lambda name: Refinement(name, [8, 16]),
    ],
    ids=["local_block", "deepest_block", "skip_gate", "Refinement"],
)
def test_an_unknown_name_is_answered_with_the_nearest(ask: typing.Callable[[str], nn.Module]) -> None:
    with pytest.raises(ConfigError, match="unknown attention block 'nonlocal'; did you mean 'non_local'") as caught:
        ask("nonlocal")
    assert "known: cbam, dual, gate, non_local, scse, se, spatial" in str(caught.value)


CHANNELS = [0, 8, 0, 16, 24]


def _levels() -> list[torch.Tensor]:
    shapes = [(3, 16, 18), (8, 8, 9), (0, 4, 5), (16, 4, 5), (24, 2, 3)]
    return [_features(2, *shape) for shape in shapes]


def test_refinement_puts_a_local_block_on_each_map() -> None:
    refinement, features = Refinement("spatial", CHANNELS), _levels()
    refined = refinement(features)
    assert refined[0] is features[0]
    assert refined[2] is features[2]
    for level, block in zip([1, 3, 4], refinement.local_blocks, strict=True):
        assert torch.equal(refined[level], block(features[level]))
        assert not torch.equal(refined[level], features[level])


def test_refinement_puts_a_global_block_on_the_deepest_map() -> None:
    refinement, features = Refinement("dual", CHANNELS), _levels()
    refined = refinement(features)
    assert all(refined[level] is features[level] for level in range(4))
    assert torch.equal(refined[4], refinement.deepest_block(features[4]))
    assert not torch.equal(refined[4], features[4])


def test_refinement_gates_each_map_by_the_gated_one_below() -> None:
    refinement, features = Refinement("gate", CHANNELS), _levels()
    refined = refinement(features)
    assert all(refined[level] is features[level] for level in (0, 2, 4))
    gate_of_8, gate_of_16 = refinement.gates
    assert torch.equal(refined[3], gate_of_16(features[3], features[4]))
    assert torch.equal(refined[1], gate_of_8(features[1], refined[3]))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_a_refinement_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    refinement = Refinement(name, CHANNELS)
    torch.stack([features.square().sum() for features in refinement(_levels())]).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in refinement.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("default")
def test_what_onnx_computes_is_the_same(name: str, tmp_path: Path) -> None:
    import onnxruntime

    block, features = _build(name), _features(1, 8, 5, 7)
    path = tmp_path / "block.onnx"
    torch.onnx.export(block, (features,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: features.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), block(features).detach(), rtol=1e-4, atol=1e-5)
