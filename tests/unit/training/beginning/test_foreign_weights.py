"""Weights files of other programs: their names, prefixes and heads, and what they ask of the network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.segmentation import fcn_resnet50
from torchvision.models.vgg import make_layers

from segpipe.config.train import ModelChoice
from segpipe.documents import BuiltModel
from segpipe.errors import ConfigError
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.models.parts import vgg16
from segpipe.training.beginning.weights import Given, InitialWeights, make_network

CLASSES = ("road", "car", "sky")
ENCODER = "test_efficientnet"
State = Mapping[str, torch.Tensor]


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., tuple[nn.Module, BuiltModel]]:
    """Begins a training with tensors in a file; gives the network and what builds it."""

    def begin(state: State, name: str, **options: Any) -> tuple[nn.Module, BuiltModel]:
        file = tmp_path / "weights.pth"
        torch.save(dict(state), file)
        document = {"name": name, "options": options, "weights": str(file), "sha256": sha256_of_file(file)}
        network, model, _ = make_network(ModelChoice.model_validate(document), CLASSES, _fetch_nothing)
        return network.eval(), model

    return begin


def _fetch_nothing(address: str) -> Given:
    raise AssertionError(f"{address} was asked for")


def _renamed(state: State, **names: str) -> dict[str, torch.Tensor]:
    parts = {key: key.partition(".") for key in state}
    return {names.get(part, part) + dot + rest: state[key] for key, (part, dot, rest) in parts.items()}


def _torchvision(*, auxiliary: bool) -> nn.Module:
    torch.manual_seed(3)
    return fcn_resnet50(weights=None, weights_backbone=None, num_classes=len(CLASSES), aux_loss=auxiliary).eval()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
@pytest.mark.parametrize("others", [{}, {"criterion.weight": torch.ones(3)}], ids=["alone", "with a loss"])
def test_prefixes_of_wrappers_are_left_out(
    begin: Callable[..., tuple[nn.Module, BuiltModel]], prefix: str, others: State
) -> None:
    state = build_network("unet", {"width": 2, "depth": 1}, len(CLASSES)).state_dict()
    network, _ = begin({prefix + key: tensor for key, tensor in state.items()} | others, "unet", width=2, depth=1)
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize("of_file", [True, False], ids=["file with auxiliary head", "file without"])
@pytest.mark.parametrize("of_network", [True, False], ids=["network with auxiliary head", "network without"])
@torch.no_grad()
def test_torchvisions_networks_fit_with_and_without_auxiliary_heads(
    begin: Callable[..., tuple[nn.Module, BuiltModel]],
    caplog: pytest.LogCaptureFixture,
    of_file: bool,
    of_network: bool,
) -> None:
    peer = _torchvision(auxiliary=of_file)
    with caplog.at_level(logging.INFO):
        network, _ = begin(peer.state_dict(), "fcn_resnet50", auxiliary=of_network)
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(network(images), peer(images)["out"], rtol=1e-3, atol=1e-4)
    assert ("auxiliary head is left out" in caplog.text) is (of_file and not of_network)
    assert ("has no auxiliary head" in caplog.text) is (of_network and not of_file)


def test_a_classifier_gives_its_encoder(begin: Callable[..., tuple[nn.Module, BuiltModel]]) -> None:
    torch.manual_seed(3)
    encoder = build_network("fcn_resnet50", {"auxiliary": False}, len(CLASSES)).get_submodule("encoder").state_dict()
    head = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}
    network, _ = begin({**encoder, **head}, "fcn_resnet50", auxiliary=False)
    found = network.get_submodule("encoder").state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in encoder.items())


def test_files_that_do_not_count_batches_fit(begin: Callable[..., tuple[nn.Module, BuiltModel]]) -> None:
    state = build_network("unet", {"width": 2, "depth": 1}, len(CLASSES)).state_dict()
    counted = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    assert len(counted) < len(state)
    begin(counted, "unet", width=2, depth=1)


@pytest.mark.parametrize(
    ("name", "peer_class", "options", "peer_options"),
    [
        ("pan", smp.PAN, {"decoder_channels": 8}, {"decoder_channels": 8}),
        ("segformer", smp.Segformer, {"decoder_channels": 16}, {"decoder_segmentation_channels": 16}),
        ("linknet", smp.Linknet, {}, {}),
    ],
)
@torch.no_grad()
def test_networks_of_smp_compute_what_they_did(
    begin: Callable[..., tuple[nn.Module, BuiltModel]],
    name: str,
    peer_class: type[nn.Module],
    options: dict[str, Any],
    peer_options: dict[str, Any],
) -> None:
    torch.manual_seed(3)
    names = {"encoder_name": f"tu-{ENCODER}", "encoder_weights": None}
    peer = peer_class(**names, classes=len(CLASSES), **peer_options).train()
    for _ in range(2):
        peer(torch.randn(2, 3, 128, 128))
    peer.eval()
    network, model = begin(peer.state_dict(), name, encoder=ENCODER, **options)
    images = torch.randn(1, 3, 128, 160)
    rescaled = images if network.rescaling is None else network.rescaling(images)
    torch.testing.assert_close(network(images), peer(rescaled), rtol=1e-3, atol=1e-4)
    assert model.options.get("align_corners") == (None if name == "linknet" else True)


def test_how_maps_are_resized_is_as_the_weights_were_trained_unless_the_user_says_it(
    begin: Callable[..., tuple[nn.Module, BuiltModel]], tmp_path: Path
) -> None:
    options = {"encoder": ENCODER, "decoder_channels": 16}
    state = build_network("segformer", options, len(CLASSES)).state_dict()
    assert begin(state, "segformer", **options)[1].options["align_corners"] is False
    of_smp = _renamed(state, head="segmentation_head")
    assert begin(of_smp, "segformer", **options)[1].options["align_corners"] is True
    assert begin(of_smp, "segformer", **options, align_corners=False)[1].options["align_corners"] is False

    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "weights.safetensors")
    address = "models:/streets/3"
    choice = ModelChoice.model_validate({"name": "segformer", "options": options, "weights": address})
    # A version from before the option was trained with the corners in place.
    for trained, expected in ((options, True), ({**options, "align_corners": False}, False)):
        given = Given(tmp_path / "weights.safetensors", CLASSES, "3", BuiltModel("segformer", trained))
        _, model, initial = make_network(choice, CLASSES, lambda _, given=given: given)
        assert model.options["align_corners"] is expected
        assert initial == InitialWeights(address, "3", sha256_of_file(given.file))


NARROW = [2, 2, "M", 4, 4, "M", 8, 8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M"]


def _vgg16(*, batch_norm: bool) -> State:
    torch.manual_seed(3)
    classifier = nn.Sequential(
        nn.Linear(16 * 49, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 9)
    )
    features = make_layers(NARROW, batch_norm=batch_norm)  # type: ignore[arg-type]
    return nn.ModuleDict({"features": features, "classifier": classifier}).state_dict()


@pytest.mark.parametrize("in_channels", [3, 1])
@pytest.mark.parametrize("name", ["fcn32s_vgg16", "fcn8s_vgg16", "segnet_vgg16", "dilated_vgg16"])
def test_torchvisions_vgg16_gives_its_encoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, in_channels: int
) -> None:
    monkeypatch.setattr(vgg16, "FC_WIDTH", 6)
    state = _vgg16(batch_norm=name == "segnet_vgg16")
    file = tmp_path / "vgg16.pth"
    torch.save(state, file)
    options = {"width": 2} | ({} if name == "segnet_vgg16" else {"fc_width": 6})
    document = {"name": name, "options": options, "in_channels": in_channels}
    choice = ModelChoice.model_validate({**document, "weights": str(file), "sha256": sha256_of_file(file)})
    network, _, _ = make_network(choice, CLASSES, _fetch_nothing)
    encoder = network.get_submodule("encoder")
    first = encoder.get_parameter("stages.0.0.weight")
    assert first.shape[1] == in_channels
    torch.testing.assert_close(first.sum(dim=1), state["features.0.weight"].sum(dim=1))
    last = [layer for layer in encoder.get_submodule("stages.4") if isinstance(layer, nn.Conv2d)][-1]
    published = [tensor for key, tensor in state.items() if key.startswith("features.") and tensor.ndim == 4]
    assert torch.equal(last.weight, published[-1])
    if name != "segnet_vgg16":
        assert torch.equal(encoder.get_parameter("fc6.weight").flatten(1), state["classifier.0.weight"])
        assert torch.equal(encoder.get_parameter("fc7.bias"), state["classifier.3.bias"])


def test_a_vgg16_of_other_layers_is_told_by_its_names(begin: Callable[..., tuple[nn.Module, BuiltModel]]) -> None:
    with pytest.raises(ConfigError, match=r"missing: encoder.stages.0.0.weight"):
        begin(_vgg16(batch_norm=False), "segnet_vgg16", width=2)
