"""The networks of smp: the same logits as smp's own, their options, and encoders that do and do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from model_contract import place_differences, trained_by_statistics
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPSeparableConv
from torch import nn

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models import list_models, read_card
from segpipe.models.parts.smp.pooling import MatrixPool

FIVE = {"decoder_channels": (16, 16, 8, 8, 8)}

# Model, its options, smp's class, and smp's names for the same options.
PEERS: list[tuple[str, dict[str, Any], type[nn.Module], dict[str, Any]]] = [
    ("unet_with_encoder", FIVE, smp.Unet, FIVE),
    ("unetplusplus", FIVE, smp.UnetPlusPlus, FIVE),
    ("manet", FIVE | {"attention_channels": 8}, smp.MAnet, FIVE | {"decoder_pab_channels": 8}),
    ("linknet", {}, smp.Linknet, {}),
    (
        "fpn",
        {"pyramid_channels": 16, "segmentation_channels": 32},
        smp.FPN,
        {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32},
    ),
    ("pan", {"decoder_channels": 8}, smp.PAN, {"decoder_channels": 8}),
    (
        "pspnet",
        {"decoder_channels": 16, "auxiliary": False},
        smp.PSPNet,
        {"encoder_depth": 5, "output_stride": 8, "upsampling": 8, "psp_out_channels": 16},
    ),
    (
        "deeplabv3plus",
        {"output_stride": 8, "decoder_channels": 16},
        smp.DeepLabV3Plus,
        {"encoder_output_stride": 8, "decoder_atrous_rates": (12, 24, 36), "decoder_channels": 16},
    ),
    ("upernet", {"decoder_channels": 16, "auxiliary": False}, smp.UPerNet, {"decoder_channels": 16}),
    ("segformer", {"decoder_channels": 16}, smp.Segformer, {"decoder_segmentation_channels": 16}),
    (
        "dpt",
        {"encoder": "test_vit", "decoder_channels": 16, "map_channels": (8, 8, 8, 8), "readout": "add"},
        smp.DPT,
        {
            "decoder_fusion_channels": 16,
            "decoder_intermediate_channels": (8, 8, 8, 8),
            "decoder_readout": "add",
            "dynamic_img_size": True,
        },
    ),
]


def build(name: str, **options: Any) -> nn.Module:
    options = {"encoder": "test_efficientnet"} | options
    network: nn.Module = MODELS.call(name, options, num_classes=5, in_channels=3, pretrained=False)
    return network


def encode(network: nn.Module, *size: int) -> list[torch.Tensor]:
    features: list[torch.Tensor] = network.get_submodule("encoder")(torch.zeros(1, 3, *size))
    return features


@torch.no_grad()
@pytest.mark.parametrize(("name", "options", "peer_class", "peer_options"), PEERS, ids=[peer[0] for peer in PEERS])
def test_logits_are_those_of_smps_own_network(
    name: str, options: dict[str, Any], peer_class: type[nn.Module], peer_options: dict[str, Any]
) -> None:
    corners = {"align_corners": True} if read_card(name).earlier else {}
    network = build(name, **options, **corners).eval()
    encoder = "tu-" + str(options.get("encoder", "test_efficientnet"))
    peer = peer_class(encoder_name=encoder, encoder_weights=None, classes=5, **peer_options).eval()
    state = {
        key.replace("head.", "segmentation_head.", 1) if key.startswith("head.") else key: value
        for key, value in network.state_dict().items()
    }
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert not unexpected
    # What ours goes without: a ViT's last norm and classes, and biases that a batch norm takes away.
    assert all(".norm." in key or ".head." in key or key.endswith("conv.bias") for key in missing)
    images = torch.randn(1, 3, 128, 160)
    rescaled = images if network.rescaling is None else network.rescaling(images)
    torch.testing.assert_close(network(images), _without_biases(peer, missing)(rescaled), rtol=1e-4, atol=1e-5)


def _without_biases(peer: nn.Module, missing: list[str]) -> nn.Module:
    for key in missing:
        if key.endswith("conv.bias"):
            nn.init.zeros_(peer.get_parameter(key))
    return peer


RESIZING = [name for name in list_models() if read_card(name).earlier]


def test_which_networks_resize_with_corners_or_centres() -> None:
    assert RESIZING == ["deeplabv3plus", "dpt", "fpn", "pan", "pspnet", "segformer", "upernet"]


@torch.no_grad()
@pytest.mark.parametrize("name", sorted({*RESIZING} - {"dpt"}))  # its position embedding is stretched to the image
def test_a_network_that_keeps_centres_sees_the_same_in_a_tile_as_in_the_whole(name: str) -> None:
    def differences(**options: Any) -> tuple[float, float]:
        torch.manual_seed(0)
        network = trained_by_statistics(build(name, **{**read_card(name).small, **options}))
        return place_differences(network, tile_px=384, whole_px=768)

    in_tile, shifted = differences()
    with_corners, shifted_with_corners = differences(align_corners=True)
    assert in_tile < with_corners / 3
    assert shifted < shifted_with_corners / 1.3
    assert in_tile < (0.15 if name == "fpn" else 0.03)  # FPN's group norms see other pixels in a tile


@torch.no_grad()
def test_an_image_of_any_size_is_a_part_of_a_padded_one() -> None:
    network = build("fpn", **read_card("fpn").small).eval()
    images = torch.randn(1, 3, 97, 131)
    padded = torch.zeros(1, 3, 128, 160)
    padded[..., :97, :131] = images
    assert torch.equal(network(images), network(padded)[..., :97, :131])


def test_the_deepest_map_has_the_stride_asked_for() -> None:
    for name, strides in (("deeplabv3plus", (8, 16)), ("pspnet", (8, 16, 32)), ("pan", (16, 32))):
        for stride in strides:
            network = build(name, output_stride=stride).eval()
            assert encode(network, 64, 128)[-1].shape[-2:] == (64 // stride, 128 // stride)


def test_atrous_rates_follow_the_output_stride() -> None:
    def rates(**options: Any) -> list[int]:
        modules = build("deeplabv3plus", **options).modules()
        return [module[0][0].dilation[0] for module in modules if isinstance(module, ASPPSeparableConv)]

    assert rates() == [6, 12, 18]
    assert rates(output_stride=8) == [12, 24, 36]
    assert rates(output_stride=8, atrous_rates=[2, 4, 6]) == [2, 4, 6]


def test_pool_sizes_of_pspnet() -> None:
    def cells(**options: Any) -> list[int]:
        return [m.num_cells for m in build("pspnet", **options).modules() if isinstance(m, MatrixPool)]

    assert cells() == [2, 3, 6]  # one cell is a mean
    assert cells(pool_sizes=[2, 4]) == [2, 4]
    with pytest.raises(ConfigError, match="3 sizes, which do not divide the 64 channels"):
        cells(pool_sizes=[1, 2, 3])


def test_poolings_of_upernet_have_deterministic_gradients() -> None:
    modules = list(build("upernet").get_submodule("decoder").modules())
    assert [m.num_cells for m in modules if isinstance(m, MatrixPool)] == [2, 3, 6]
    assert [m.output_size for m in modules if isinstance(m, nn.AdaptiveAvgPool2d)] == [1]


def test_two_architectures_have_auxiliary_heads_by_default_as_in_their_papers() -> None:
    names = {peer[0] for peer in PEERS} - {"dpt"}
    assert {name for name in names if build(name).auxiliary is not None} == {"pspnet", "upernet"}


@torch.no_grad()
@pytest.mark.parametrize("attention", ["scse", "non_local", "gate"])
@pytest.mark.parametrize("name", ["deeplabv3plus", "dpt"])
def test_attention_refines_the_maps_that_the_decoder_takes(name: str, attention: str) -> None:
    network = build(name, **(dict(read_card(name).small) | {"attention": attention})).eval()
    assert all(parameter.requires_grad for parameter in network.parameters())
    images = torch.randn(1, 3, 64, 64)
    refined = network(images)
    network.refinement = None
    assert not torch.equal(network(images), refined)


def test_a_gate_needs_two_maps() -> None:
    with pytest.raises(ConfigError, match="model 'pspnet': option attention: 'gate' needs two feature maps"):
        build("pspnet", attention="gate")


@pytest.mark.parametrize("name", [peer[0] for peer in PEERS])
def test_a_message_names_the_model(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^model '{name}': option encoder: unknown encoder 'resnet33'"):
        build(name, encoder="resnet33")


@pytest.mark.parametrize(
    ("name", "encoder", "reason", "fitting"),
    [
        ("deeplabv3plus", "xception", "does not support dilated mode due to pooling", "xception65"),
        ("deeplabv3plus", "test_vit", "its maps have strides of 16 px", "by dilation"),
        ("pan", "densenet121", "do not support dilated mode", "at output_stride 32"),
        ("unet_with_encoder", "test_vit", "its maps have strides of 16 px", "strides of 4, 8, 16 and 32 px"),
        ("linknet", "mit_b0", "not supported for Linknet", "strides of 4, 8, 16 and 32 px"),
        ("segformer", "test_vit", "its maps have strides of 16 px", "strides of 4, 8, 16 and 32 px"),
        ("fpn", "botnet26t_256", "it fails with AssertionError", "strides of 4, 8, 16 and 32 px"),
        ("dpt", "resnet18", "strides of 2, 4, 8, 32 px, and the decoder takes maps of 8", "a Vision Transformer"),
        ("dpt", "mit_b0", "it is not an encoder of timm", "a Vision Transformer"),
    ],
)
def test_an_encoder_that_does_not_fit(name: str, encoder: str, reason: str, fitting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, encoder=encoder)
    message = str(caught.value)
    assert message.startswith(f"model {name!r}: option encoder: '{encoder}' does not fit: ")
    found, what_fits = message.split(". What fits: ")
    assert reason in found
    assert fitting in what_fits


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("deeplabv3plus", {"encoder": "xception65"}, marks=pytest.mark.slow),
        ("deeplabv3plus", {"encoder": "mobilenet_v2", "output_stride": 8}),
        pytest.param("pan", {"encoder": "densenet121", "output_stride": 32}, marks=pytest.mark.slow),
        ("unet_with_encoder", {"encoder": "test_convnext"}),  # has no map at 1/2
        ("unetplusplus", {"encoder": "test_convnext"}),
        ("linknet", {"encoder": "test_convnext"}),
        pytest.param("upernet", {"encoder": "swin_tiny_patch4_window7_224"}, marks=pytest.mark.slow),
        ("segformer", {"encoder": "resnet18"}),
        pytest.param("dpt", {"encoder": "vit_small_patch32_224"}, marks=pytest.mark.slow),
        pytest.param("dpt", {"encoder": "vit_small_patch16_dinov3"}, marks=pytest.mark.slow),
    ],
)
def test_an_encoder_that_fits(name: str, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = build(name, **options).eval()
        assert network(torch.empty(1, 3, 97, 131)).shape == (1, 5, 97, 131)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet_with_encoder", {"decoder_channels": [8, 8]}, "at least 5 items"),
        ("deeplabv3plus", {"output_stride": 32}, "8 or 16"),
        ("fpn", {"segmentation_channels": 48}, "multiple of 32"),
        ("dpt", {"readout": "sum"}, "'cat', 'add' or 'ignore'"),
    ],
)
def test_a_wrong_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **options)
