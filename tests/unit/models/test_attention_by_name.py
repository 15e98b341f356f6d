"""Attention by name in the decoders that are neither U-Nets nor smp's: where blocks stand, and that they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from model_contract import NUM_CLASSES, images_of, outputs_of
from torch import nn

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models import has_pretrained, read_card
from segpipe.models.parts.fc_densenet import FCDenseNet

# The parts of each model, as its weights have named them since before there was attention.
PARTS = {
    "compact_fpn": {"stem", "stages", "context", "laterals", "smooth", "fine", "head"},
    "segnet_vgg16": {"encoder", "decoder", "head"},
    "fc_densenet56": {"first", "blocks_down", "transitions_down", "bottom", "transitions_up", "blocks_up", "head"},
    "fc_densenet67": {"first", "blocks_down", "transitions_down", "bottom", "transitions_up", "blocks_up", "head"},
    "fc_densenet103": {"first", "blocks_down", "transitions_down", "bottom", "transitions_up", "blocks_up", "head"},
    "fcn32s_vgg16": {"encoder", "score"},
    "fcn16s_vgg16": {"encoder", "score", "skip_scores", "upsamplings"},
    "fcn8s_vgg16": {"encoder", "score", "skip_scores", "upsamplings"},
    "dilated_vgg16": {"encoder", "score", "context"},
    "fcn_resnet50": {"encoder", "decoder", "auxiliary"},
    "fcn_resnet101": {"encoder", "decoder", "auxiliary"},
    "deeplabv3_resnet50": {"encoder", "decoder", "auxiliary"},
    "deeplabv3_resnet101": {"encoder", "decoder", "auxiliary"},
    "deeplabv3_mobilenet_v3_large": {"encoder", "decoder", "auxiliary"},
    "lraspp_mobilenet_v3_large": {"encoder", "decoder"},
}
WITH_SKIPS = {
    "compact_fpn",
    "fc_densenet56",
    "fc_densenet67",
    "fc_densenet103",
    "fcn16s_vgg16",
    "fcn8s_vgg16",
    "lraspp_mobilenet_v3_large",
}
# Of models that share their code the large ones get one block alone: a ResNet-101 takes its time.
KINDS = {
    "compact_fpn": ("se", "cbam", "dual", "gate"),
    "segnet_vgg16": ("se", "cbam", "non_local"),
    "fc_densenet56": ("cbam", "non_local", "gate"),
    "fc_densenet67": ("dual", "gate"),
    "fc_densenet103": ("se",),
    "fcn32s_vgg16": ("se", "non_local"),
    "fcn16s_vgg16": ("se", "dual", "gate"),
    "fcn8s_vgg16": ("cbam", "non_local", "gate"),
    "dilated_vgg16": ("cbam", "dual"),
    "fcn_resnet50": ("se", "dual"),
    "fcn_resnet101": ("cbam",),
    "deeplabv3_resnet50": ("non_local",),
    "deeplabv3_resnet101": ("se",),
    "deeplabv3_mobilenet_v3_large": ("cbam", "dual"),
    "lraspp_mobilenet_v3_large": ("cbam", "non_local", "gate"),
}


def _build(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    context = {"pretrained": False} if has_pretrained(name) else {}
    options = {**read_card(name).small, **options}
    module: nn.Module = MODELS.call(name, options, num_classes=NUM_CLASSES, in_channels=3, **context)
    return module


def _blocks_of(name: str, attention: str) -> dict[str, nn.Parameter]:
    module = _build(name, attention=attention)
    return {key: value for key, value in module.named_parameters() if key.split(".")[0] not in PARTS[name]}


@pytest.mark.parametrize("name", PARTS)
def test_without_attention_a_model_has_the_weights_that_it_always_had(name: str) -> None:
    with torch.device("meta"):
        assert {key.split(".")[0] for key in _build(name).state_dict()} == PARTS[name]


@pytest.mark.parametrize(("name", "attention"), [(name, kind) for name, kinds in KINDS.items() for kind in kinds])
def test_every_block_is_used(name: str, attention: str) -> None:
    module = _build(name, attention=attention)
    blocks = {key: value for key, value in module.named_parameters() if key.split(".")[0] not in PARTS[name]}
    assert blocks
    target = torch.arange(2 * 64 * 64).view(2, 64, 64) % NUM_CLASSES
    loss = nn.functional.cross_entropy(outputs_of(module.train(), images_of(2, 3, 64, 64))[0], target)
    for key, gradient in zip(blocks, torch.autograd.grad(loss, list(blocks.values())), strict=True):
        assert gradient.isfinite().all() and gradient.any(), key
    with torch.no_grad():
        logits = module.eval()(images_of(1, 3, 97, 131))
    assert logits.shape == (1, NUM_CLASSES, 97, 131)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "local", "deepest", "gates"),
    [
        ("compact_fpn", ["refine.0", "refine.1", "refine.2", "refine.3"], "deepest", 4),
        ("segnet_vgg16", [f"refine.{level}" for level in range(5)], "deepest", 0),
        ("fc_densenet56", [f"refine.{level}" for level in range(5)], "deepest", 5),
        ("fcn32s_vgg16", ["refinement.local_blocks.0"], "refinement.deepest_block", 0),
        ("fcn16s_vgg16", [f"refinement.local_blocks.{level}" for level in range(2)], "refinement.deepest_block", 1),
        ("fcn8s_vgg16", [f"refinement.local_blocks.{level}" for level in range(3)], "refinement.deepest_block", 2),
        ("dilated_vgg16", ["refinement.local_blocks.0"], "refinement.deepest_block", 0),
    ],
)
def test_where_blocks_stand(name: str, local: list[str], deepest: str, gates: int) -> None:
    def places(attention: str) -> set[str]:
        num_parts = len(local[0].split("."))
        return {".".join(key.split(".")[:num_parts]) for key in _blocks_of(name, attention)}

    with torch.device("meta"):
        assert places("se") == set(local)
        assert all(key.startswith(f"{deepest}.") for key in _blocks_of(name, "dual"))
        if gates:
            assert len(places("gate")) == gates


@pytest.mark.parametrize("attention", ["se", "non_local", "gate"])
@pytest.mark.parametrize("name", ["compact_fpn", "fc_densenet56", "fcn8s_vgg16", "lraspp_mobilenet_v3_large"])
def test_the_other_layers_begin_with_the_same_weights(name: str, attention: str) -> None:
    expected, state = _build(name).state_dict(), _build(name, attention=attention).state_dict()
    for key, values in expected.items():
        if not key.startswith("skip_scores"):
            assert torch.equal(state[key], values), key


def test_scores_of_pooled_maps_begin_at_zero_unless_a_block_waits_for_their_gradient() -> None:
    def is_zero(attention: str | None) -> bool:
        state = _build("fcn8s_vgg16", attention=attention).state_dict()
        return not any(values.any() for key, values in state.items() if key.startswith("skip_scores"))

    assert is_zero(None)
    assert is_zero("non_local")
    assert not is_zero("se")
    assert not is_zero("gate")


def test_gates_of_a_dense_net_begin_open() -> None:
    blocks = _blocks_of("fc_densenet56", "gate")
    assert [bias.item() for key, bias in blocks.items() if key.endswith("weigh.bias")] == [3.0] * 5


@pytest.mark.parametrize("attention", ["cbam", "non_local", "gate"])
def test_checkpointing_changes_nothing_in_blocks(attention: str) -> None:
    def step(*, checkpointing: bool) -> Mapping[str, torch.Tensor]:
        torch.manual_seed(0)
        options: dict[str, Any] = {"growth": 4, "first_width": 8, "dropout": 0.2, "attention": attention}
        module = FCDenseNet(NUM_CLASSES, 3, (1, 2, 2), **options, checkpointing=checkpointing).train()
        module(images_of(2, 3, 33, 47)).square().mean().backward()
        gradients = {f"{key}.grad": value.grad for key, value in module.named_parameters() if value.grad is not None}
        return module.state_dict() | gradients

    plain, checkpointed = step(checkpointing=False), step(checkpointing=True)
    assert plain.keys() == checkpointed.keys()
    for key, values in plain.items():
        assert torch.equal(checkpointed[key], values), key
        assert not key.endswith("num_batches_tracked") or values == 1


@pytest.mark.parametrize("name", sorted(PARTS.keys() - WITH_SKIPS))
def test_a_gate_needs_two_maps(name: str) -> None:
    expected = f"model '{name}': option attention: 'gate' needs two feature maps.*such as 'scse'"
    with torch.device("meta"), pytest.raises(ConfigError, match=expected):
        _build(name, attention="gate")


@pytest.mark.parametrize("name", PARTS)
def test_an_unknown_block_is_answered_with_the_nearest(name: str) -> None:
    expected = f"model '{name}': option attention: unknown attention block 'sce'; did you mean .*'scse'"
    with torch.device("meta"), pytest.raises(ConfigError, match=expected):
        _build(name, attention="sce")


def test_batch_norm_momentum_is_that_of_blocks_too() -> None:
    module = _build("lraspp_mobilenet_v3_large", attention="cbam", batch_norm_momentum=0.02)
    assert {layer.momentum for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.02}
