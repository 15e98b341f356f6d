"""The models whose networks are torchvision's."""

from typing import Any
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models import read_card

WITH_AUXILIARY = [
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
]
NAMES = [*WITH_AUXILIARY, "lraspp_mobilenet_v3_large"]
SMALLEST_OF_EACH_KIND = ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]


def build(name: str, *, in_channels: int = 3, pretrained: bool = False, num_classes: int = 5, **options: Any) -> Any:
    context = {"num_classes": num_classes, "in_channels": in_channels, "pretrained": pretrained}
    return MODELS.call(name, options, **context)


def build_theirs(name: str) -> nn.Module:
    auxiliary = {"aux_loss": True} if name in WITH_AUXILIARY else {}
    network: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=5, **auxiliary
    )
    return network


def rename(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = {"backbone": "encoder", "classifier": "decoder", "aux_classifier": "auxiliary"}
    return {parts[key.partition(".")[0]] + "." + key.partition(".")[2]: value for key, value in state.items()}


@pytest.mark.parametrize("name", SMALLEST_OF_EACH_KIND)
def test_logits_equal_those_of_torchvisions_network_with_the_same_weights(name: str) -> None:
    torch.manual_seed(0)
    theirs, ours = build_theirs(name), build(name)
    ours.load_state_dict(rename(theirs.state_dict()))
    images = torch.randn(2, 3, 45, 67)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images)["out"])
        torch.manual_seed(1)
        outputs = ours.train()(images)
        torch.manual_seed(1)
        expected = theirs.train()(images)
    if name not in WITH_AUXILIARY:
        assert torch.equal(outputs, expected["out"])
        return
    logits, auxiliary_logits = outputs
    assert torch.equal(logits, expected["out"])
    assert auxiliary_logits.shape == (2, 5, 6, 9)
    assert torch.equal(F.interpolate(auxiliary_logits, (45, 67), mode="bilinear"), expected["aux"])


@pytest.mark.parametrize("name", NAMES)
def test_parameters_with_the_auxiliary_head_are_torchvisions_count(name: str) -> None:
    with torch.device("meta"):
        module = build(name, num_classes=21)
    counts = {key: value.numel() for key, value in module.named_parameters()}
    documented = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert sum(counts.values()) == documented
    num_auxiliary = sum(count for key, count in counts.items() if key.startswith("auxiliary."))
    assert (num_auxiliary > 0) == (name in WITH_AUXILIARY)
    assert read_card(name).published == (21, documented - num_auxiliary)


@pytest.mark.parametrize("name", WITH_AUXILIARY)
def test_there_is_no_auxiliary_head_where_none_is_asked_for(name: str) -> None:
    with torch.device("meta"):
        module = build(name, auxiliary=False)
        assert isinstance(module.train()(torch.empty(2, 3, 64, 64)), torch.Tensor)
    assert not [key for key, _ in module.named_parameters() if key.startswith("auxiliary")]


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_the_momentum_of_mobilenets_batch_norms(name: str) -> None:
    def momenta(**options: float) -> set[float | None]:
        with torch.device("meta"):
            module = build(name, **options)
        return {layer.momentum for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)}

    assert momenta() == {0.1}
    assert momenta(batch_norm_momentum=0.03) == {0.03}
    with pytest.raises(ConfigError, match="batch_norm_momentum: must be greater than 0"):
        build(name, batch_norm_momentum=0.0)


@pytest.mark.parametrize("name", ["fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_other_channels_change_the_first_convolution_alone(name: str) -> None:
    with torch.device("meta"):
        usual, other = build(name).state_dict(), build(name, in_channels=7).state_dict()
    changed = [key for key in usual if usual[key].shape != other[key].shape]
    assert changed == [next(iter(usual))]
    assert other[changed[0]].shape[1] == 7


def test_a_new_first_convolution_is_drawn_as_torchvision_draws_it() -> None:
    weight = build("lraspp_mobilenet_v3_large", in_channels=24).encoder["0"][0].weight
    # He et al. by outputs: 16 channels of 3x3.
    assert weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)


DOWNLOADS = {
    "fcn_resnet50": "resnet50-0676ba61.pth",
    "deeplabv3_resnet101": "resnet101-63fe2227.pth",
    "lraspp_mobilenet_v3_large": "mobilenet_v3_large-8738ca79.pth",
}


@pytest.mark.parametrize("name", ["fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_pretrained_weights_go_into_the_encoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = []

    def download(url: str, **_: object) -> dict[str, torch.Tensor]:
        addresses.append(url)
        classifier = torchvision.models.get_model("_".join(name.split("_")[1:]), weights=None)
        return {key: torch.full_like(value, 3) for key, value in classifier.state_dict().items()}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    module = build(name, pretrained=True)
    assert [address.rpartition("/")[2] for address in addresses] == [DOWNLOADS[name]]
    assert all((value == 3).all() for value in module.encoder.state_dict().values())
    assert not any((value == 3).any() for value in module.decoder.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_the_download_is_not_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **_: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with torch.device("meta"), pytest.raises(URLError, match="no route"):
        build(name, pretrained=True)
