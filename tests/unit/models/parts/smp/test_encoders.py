"""Encoders by name: of smp's list or timm's, their weights, and how their images were normalised."""

from __future__ import annotations

import pytest
import torch

from segpipe.errors import ConfigError
from segpipe.models.parts.smp.encoders import IMAGENET, find_encoder, find_statistics, find_weights
from segpipe.models.parts.smp.network import _Rescaling


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
