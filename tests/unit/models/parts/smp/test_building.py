"""Building a network of smp: what fits, sizes, weights from ImageNet, layers without a use."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch import encoders
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.smp import build_segmentation
from segpipe.models.parts.smp.architecture import Architecture, list_strides
from segpipe.models.parts.smp.network import SmpSegmentation
from segpipe.models.parts.smp.trial import remove_unused

FPN = Architecture("fpn", smp.FPN, list_strides(range(2, 6)))


def build(encoder: str = "test_efficientnet", architecture: Architecture = FPN, **options: Any) -> SmpSegmentation:
    options = {"pretrained": False, "attention": None, "auxiliary": False} | options
    return build_segmentation(architecture, encoder=encoder, num_classes=5, in_channels=3, **options)


def test_all_unknown_names_are_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)encoder 'nope'.*option attention: .*'neither'"):
        build("nope", attention="neither")


# --- weights from ImageNet


def test_an_encoder_without_weights_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ConfigError, match="timm has no weights for 'seresnet18'"):
        build("seresnet18", pretrained=True)


def test_pretrained_weights_of_smp_come_into_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    state = encoders.get_encoder("mobilenet_v2", weights=None).state_dict()
    state = {key: torch.full_like(value, 3) for key, value in state.items()}
    asked: list[str] = []
    monkeypatch.setattr(encoders, "hf_hub_download", lambda repo_id, **_: asked.append(repo_id))
    monkeypatch.setattr(encoders, "load_file", lambda *_, **__: dict(state))
    network = build("mobilenet_v2", pretrained=True)
    assert set(asked) == {"smp-hub/mobilenet_v2.imagenet"}
    assert all((value == 3).all() for value in network.encoder.state_dict().values())
    assert not any((parameter == 3).all() for parameter in network.decoder.parameters())


def test_pretrained_weights_of_timm_come_into_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def create_filled(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        module = create(name, **options)
        for parameter in module.parameters():
            if pretrained:
                nn.init.constant_(parameter, 3)
        return module

    monkeypatch.setattr(timm, "create_model", create_filled)
    assert all((parameter == 3).all() for parameter in build(pretrained=True).encoder.parameters())
    assert not all((parameter == 3).all() for parameter in build().encoder.parameters())


def test_a_failed_download_is_not_taken_for_an_encoder_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(encoders, "hf_hub_download", fail)
    with pytest.raises(ConnectionError, match="no route"):
        build("mobilenet_v2", pretrained=True)


# --- building


def test_a_build_leaves_no_trace_of_the_trial() -> None:
    with torch.no_grad():  # some callers build so
        network = build("mobilenet_v2")
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    for key, buffer in network.named_buffers():
        expected = 1 if key.endswith("running_var") else 0
        assert (buffer == expected).all(), key


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.manual_seed(3)
    first = build().state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(value, first[key]) for key, value in build().state_dict().items())


def test_statistics_that_would_take_thousands_of_steps_are_quickened() -> None:
    with torch.device("meta"):
        slow = encoders.get_encoder("efficientnet-b0", weights=None)
        network = build("efficientnet-b0")
    assert all(m.momentum < 0.02 for m in slow.modules() if isinstance(m, nn.BatchNorm2d))
    assert {m.momentum for m in network.encoder.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_an_encoder_that_looks_at_values_while_it_is_built_comes_to_the_meta_device_too() -> None:
    with pytest.raises(RuntimeError, match="meta"), torch.device("meta"):
        encoders.get_encoder("mit_b0", weights=None)
    with torch.device("meta"):
        network = build("mit_b0")
        assert network(torch.empty(2, 3, 40, 50)).shape == (2, 5, 40, 50)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


def test_a_misfit_is_a_misfit_on_the_meta_device() -> None:
    with pytest.raises(ConfigError, match="does not fit"), torch.device("meta"):
        build("test_vit")


def test_an_encoder_made_for_one_size_is_told_that_there_are_others() -> None:
    with torch.device("meta"):
        network = build("swin_tiny_patch4_window7_224")
        assert network(torch.empty(1, 3, 64, 97)).shape == (1, 5, 64, 97)


def test_maps_of_other_strides_than_the_decoder_takes_are_named() -> None:
    shifted = Architecture("fpn", smp.FPN, ({2: 4, 3: 8, 4: 16, 5: 16},), "nothing")
    with pytest.raises(ConfigError) as caught:
        build(architecture=shifted)
    assert str(caught.value) == (
        "model 'fpn': option encoder: 'test_efficientnet' does not fit: its maps have strides of 4, 8, 16, 32 px, and "
        "the decoder takes maps of 4, 8, 16, 16 px. What fits: nothing"
    )


def test_layers_without_a_use_are_taken_out() -> None:
    module = nn.Module()
    module.used, module.unused = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
    module.half = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    module.token = nn.Parameter(torch.zeros(1))
    unused = {"unused.weight", "unused.bias", "half.1.weight", "half.1.bias", "token"}
    remove_unused(module, unused)
    assert set(module.state_dict()) == {"used.weight", "used.bias", "half.0.weight", "half.0.bias", "token"}
    assert [key for key, parameter in module.named_parameters() if not parameter.requires_grad] == ["token"]


# --- sizes


@pytest.mark.parametrize(
    ("multiple_px", "min_side_px", "size", "padded"),
    [
        (32, 32, (64, 96), (64, 96)),
        (32, 32, (97, 131), (128, 160)),
        (8, 32, (33, 97), (40, 104)),
        (16, 128, (32, 130), (128, 144)),
    ],
)
def test_images_are_padded_to_what_the_network_takes(
    multiple_px: int, min_side_px: int, size: tuple[int, int], padded: tuple[int, int]
) -> None:
    network = build()
    network.multiple_px, network.min_side_px = multiple_px, min_side_px
    images = torch.ones(1, 3, *size)
    result = network.pad(images)
    assert result.shape[-2:] == padded
    assert torch.equal(result[..., : size[0], : size[1]], images)
    assert result.sum() == images.sum()


def test_auxiliary_logits_lie_where_the_logits_lie() -> None:
    """Over a padded image they would be stretched to the image otherwise, and learn shifted masks."""
    network = build(auxiliary=True).train()
    images = torch.randn(2, 3, 64, 64)
    logits, auxiliary = network(images)
    assert logits.shape == (2, 5, 64, 64)
    assert auxiliary.shape == (2, 5, 4, 4)  # the second deepest map has a stride of 16
    logits, auxiliary = network(images[..., :40, :50])
    assert logits.shape == auxiliary.shape == (2, 5, 40, 50)
    assert isinstance(network.eval()(images), torch.Tensor)
