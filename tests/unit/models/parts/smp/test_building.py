"""What all networks of smp share: encoders by name, what fits, sizes, weights from ImageNet, layers without a use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch import encoders
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.smp import (
    IMAGENET,
    PYRAMID_ENCODERS,
    Architecture,
    MatrixPool,
    SmpSegmentation,
    _remove_unused,
    _Rescaling,
    build_segmentation,
    find_encoder,
    find_statistics,
    find_weights,
    list_strides,
)

FPN = Architecture("fpn", list_strides(range(2, 6)), PYRAMID_ENCODERS)


def build(encoder: str = "test_efficientnet", architecture: Architecture = FPN, **options: Any) -> SmpSegmentation:
    options = {"pretrained": False, "attention": None, "auxiliary": False} | options
    return build_segmentation(architecture, smp.FPN, encoder=encoder, num_classes=5, in_channels=3, **options)


# --- encoders by name


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("resnet18", "resnet18"),  # smp's list and timm's: smp's first
        ("tu-resnet18", "tu-resnet18"),
        ("convnext_tiny", "tu-convnext_tiny"),
        ("vit_base_patch16_224.augreg_in21k", "tu-vit_base_patch16_224.augreg_in21k"),
        ("seresnet18", "tu-seresnet18"),  # timm has it without weights
        ("efficientnet-b0", "efficientnet-b0"),
    ],
)
def test_an_encoder_is_smps_or_else_timms(encoder: str, name: str) -> None:
    assert find_encoder("fpn", encoder) == name


def test_where_smps_own_do_not_count_timms_come_first() -> None:
    assert find_encoder("dpt", "resnet18", is_timm_only=True) == "tu-resnet18"
    assert find_encoder("dpt", "mit_b0", is_timm_only=True) == "mit_b0"


@pytest.mark.parametrize(
    ("encoder", "nearest"),
    [("resnet33", "'resnet34'"), ("tu-convnext_tni", "'convnext_tiny'"), ("resnet18.a1_in1", "'resnet18.a1_in1k'")],
)
def test_an_unknown_encoder_is_answered_with_the_three_nearest(encoder: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match="model 'fpn': option encoder: unknown encoder") as caught:
        find_encoder("fpn", encoder)
    assert nearest in str(caught.value)
    assert str(caught.value).count(" or ") == 2


def test_an_address_is_not_an_encoder() -> None:
    """timm would download what such a name leads to, and build what it says."""
    with pytest.raises(ConfigError, match="unknown encoder"):
        find_encoder("fpn", "hf-hub:someone/something")


def test_all_unknown_names_are_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)encoder 'nope'.*option attention: .*'neither'"):
        build("nope", attention="neither")


# --- weights from ImageNet


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", "imagenet"),  # before ssl and swsl
        ("dpn92", "imagenet+5k"),
        ("resnext101_32x16d", "instagram"),  # there is none else that begins with imagenet
        ("tu-resnet18", True),
        ("tu-resnet18.a1_in1k", True),
    ],
)
def test_weights_are_those_that_the_library_has(name: str, weights: str | bool) -> None:
    assert find_weights("fpn", name) == weights


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
    shifted = Architecture("fpn", ({2: 4, 3: 8, 4: 16, 5: 16},), "nothing")
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
    _remove_unused(module, unused)
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


# --- pooling


def pool_slowly(features: np.ndarray[Any, Any], num_cells: int) -> np.ndarray[Any, Any]:
    """Means over rows floor(i * H / n) to ceil((i + 1) * H / n), cell by cell."""
    height, width = features.shape[-2:]
    pooled = np.zeros((*features.shape[:2], num_cells, num_cells))
    for row in range(num_cells):
        for column in range(num_cells):
            top, bottom = row * height // num_cells, int(np.ceil((row + 1) * height / num_cells))
            left, right = column * width // num_cells, int(np.ceil((column + 1) * width / num_cells))
            pooled[..., row, column] = features[..., top:bottom, left:right].mean(axis=(-2, -1))
    return pooled


@pytest.mark.parametrize("num_cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 12), (13, 7)])
def test_pooling_by_matrices_is_adaptive_pooling(num_cells: int, size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    pooled = MatrixPool(num_cells)(features)
    np.testing.assert_allclose(pooled.numpy(), pool_slowly(features.numpy(), num_cells), atol=1e-12)
    torch.testing.assert_close(pooled, nn.AdaptiveAvgPool2d(num_cells)(features))


def test_gradient_of_pooling_by_matrices() -> None:
    features = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MatrixPool(3), features)


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("tu-test_vit", -1.0, 1.0),  # timm: mean and deviation 0.5
        ("tu-xception65", -1.0, 1.0),
        ("inceptionv4", -1.0, 1.0),
        ("dpn68", -0.0167 * 124, 0.0167 * 131),  # of the red channel
        ("resnet34", None, None),
        ("tu-resnet34", None, None),
    ],
)
def test_an_encoder_sees_images_normalised_as_in_its_own_training(
    name: str, black: float | None, white: float | None
) -> None:
    statistics = find_statistics(name)
    assert (statistics == IMAGENET) == (black is None)
    if black is None:
        return
    rescaling = _Rescaling(statistics)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    for value, expected in ((0.0, black), (1.0, white)):
        red = rescaling((torch.full((1, 3, 2, 2), value) - mean) / std)[0, 0]
        torch.testing.assert_close(red, torch.full((2, 2), expected), rtol=1e-4, atol=1e-4)
    assert not rescaling.state_dict()
