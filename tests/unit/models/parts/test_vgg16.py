"""VGG16's convolutions against torchvision's own network, made narrow; its weights come without the network."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torchvision.models import _api
from torchvision.models.vgg import make_layers

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models.parts import vgg16
from segpipe.models.parts.vgg16 import FullyConvolutionalVGG16

WIDTH, FC_WIDTH = 2, 6
NARROW = [2, 2, "M", 4, 4, "M", 8, 8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M"]
FAMILY = ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16", "segnet_vgg16", "dilated_vgg16"]


def _narrow_torchvision(*, batch_norm: bool) -> nn.ModuleDict:
    """Gives torchvision's layers under the names that its own network has for them."""
    torch.manual_seed(3)
    classifier = [nn.Linear(16 * 49, FC_WIDTH), nn.ReLU(), nn.Dropout(), nn.Linear(FC_WIDTH, FC_WIDTH), nn.ReLU()]
    features = make_layers(NARROW, batch_norm=batch_norm)
    for layer in features:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.weight)
    return nn.ModuleDict({"features": features, "classifier": nn.Sequential(*classifier)}).eval()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the narrow network the one that is published."""
    monkeypatch.setattr(vgg16, "WIDTH", WIDTH)
    monkeypatch.setattr(vgg16, "FC_WIDTH", FC_WIDTH)
    monkeypatch.setattr(
        _api,
        "load_state_dict_from_url",
        lambda url, **_: _narrow_torchvision(batch_norm="vgg16_bn" in url).state_dict(),
    )
    yield


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("batch_norm", [False, True])
@torch.no_grad()
def test_computes_what_torchvisions_network_computes(batch_norm: bool) -> None:
    network = _narrow_torchvision(batch_norm=batch_norm)
    encoder = FullyConvolutionalVGG16(3, width=WIDTH, fc_width=FC_WIDTH, batch_norm=batch_norm).eval()
    encoder.load_imagenet()
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    *_, pooled, fc7 = encoder(images)
    torch.testing.assert_close(pooled, network["features"](images))
    assert fc7.shape == (1, FC_WIDTH, 7, 7)
    # In the middle of 7x7 cells the kernel of 7x7 covers just what the fully connected layer sees.
    assert fc7[:, :, 3, 3].any()
    torch.testing.assert_close(fc7[:, :, 3, 3], network["classifier"](pooled.flatten(1)))


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", FAMILY)
def test_every_model_of_the_family_takes_the_published_weights(name: str) -> None:
    module = MODELS.call(name, {"width": WIDTH}, num_classes=3, in_channels=3, pretrained=True)
    expected = _narrow_torchvision(batch_norm=name == "segnet_vgg16")["features"]
    assert torch.equal(module.encoder.stages[0][0].weight, expected[0].weight)
    last_conv = [layer for layer in module.encoder.stages[4] if isinstance(layer, nn.Conv2d)][-1]
    assert torch.equal(last_conv.weight, [layer for layer in expected if isinstance(layer, nn.Conv2d)][-1].weight)


@pytest.mark.parametrize("name", FAMILY)
def test_published_weights_of_another_width_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"option width: .*are for width 64 \(got 32\); take width 64"):
        MODELS.call(name, {"width": 32}, num_classes=3, in_channels=3, pretrained=True)


@pytest.mark.parametrize(("batch_norm", "file"), [(False, "vgg16-397923af.pth"), (True, "vgg16_bn-6c64b313.pth")])
def test_asks_torchvision_for_imagenets_weights(batch_norm: bool, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, *, check_hash: bool, **_: object) -> None:
        assert check_hash
        raise OSError(url)

    monkeypatch.setattr(_api, "load_state_dict_from_url", refuse)
    with pytest.raises(OSError, match=file):
        vgg16.fetch_imagenet_weights(batch_norm=batch_norm)


@pytest.mark.usefixtures("published")
def test_fully_connected_layers_of_another_width_stay_random(caplog: pytest.LogCaptureFixture) -> None:
    encoder = FullyConvolutionalVGG16(3, width=WIDTH, fc_width=5)
    before = encoder.fc6.weight.clone()
    with caplog.at_level(logging.INFO):
        encoder.load_imagenet()
    assert torch.equal(encoder.fc6.weight, before)
    assert "fc6 and fc7 begin random: VGG16 has 6 channels there, not 5" in caplog.text


@torch.no_grad()
def test_sizes_are_rounded_up_and_the_last_row_is_seen() -> None:
    encoder = FullyConvolutionalVGG16(1, width=2, fc_width=4).eval()
    images = torch.ones(1, 1, 33, 47)
    maps = encoder(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(2, 17, 24), (4, 9, 12), (8, 5, 6), (16, 3, 3), (16, 2, 2), (4, 2, 2)]
    images[..., -1, :] = 5
    assert not torch.equal(encoder(images)[0][..., -1, :], maps[0][..., -1, :])


@torch.no_grad()
def test_missing_poolings_are_made_up_for_by_dilation() -> None:
    encoder = FullyConvolutionalVGG16(3, width=2, fc_width=4, num_poolings=3).eval()
    dilations = [{m.dilation[0] for m in stage.modules() if isinstance(m, nn.Conv2d)} for stage in encoder.stages]
    assert dilations == [{1}, {1}, {1}, {1}, {2}]
    assert encoder.fc6.dilation == (4, 4)
    assert [m.shape[-1] for m in encoder(torch.zeros(1, 3, 64, 64))] == [32, 16, 8, 8, 8, 8]


def test_random_weights_are_drawn_by_their_inputs() -> None:
    torch.manual_seed(0)
    encoder = FullyConvolutionalVGG16(3, width=8, fc_width=32)
    assert encoder.fc6.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.03)
    assert encoder.stages[1][0].weight.std().item() == pytest.approx(math.sqrt(2 / (8 * 9)), rel=0.1)
    assert not encoder.fc6.bias.any()


@torch.no_grad()
def test_dropout_leaves_out_single_values_in_training() -> None:
    torch.manual_seed(0)
    encoder = FullyConvolutionalVGG16(3, width=2, fc_width=64, dropout=0.75)
    nn.init.ones_(encoder.fc7.bias)
    nn.init.zeros_(encoder.fc7.weight)
    images = torch.randn(1, 3, 128, 128)
    fc7 = encoder.train()(images)[-1]
    assert set(fc7.unique().tolist()) == {0.0, 4.0}
    assert (fc7 == 0).float().mean().item() == pytest.approx(0.75, abs=0.05)
    channels_partly_left_out = (fc7 == 0).any(dim=(2, 3)) & (fc7 != 0).any(dim=(2, 3))
    assert channels_partly_left_out.float().mean() > 0.9
    assert torch.equal(encoder.eval()(images)[-1], torch.ones_like(fc7))
