"""From pixels to logits to masks: whole images, and huge ones piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segpipe.inference import tiles
from segpipe.inference.logits import MEAN_RGB, STD_RGB, give_logits, most_likely, predict_masks, to_input
from segpipe.inference.network import build_network
from segpipe.models import read_card

CPU = torch.device("cpu")

# The starter's, the largest receptive field and the smallest: what is asked of every model is in its contract.
NETWORKS = ["compact_fpn", "lraspp_mobilenet_v3_large", "unet"]
OPTIONS = {"unet": {"width": 2, "depth": 2}, "compact_fpn": {"width": 8, "pyramid_width": 8}}


def _options_of(name: str) -> dict[str, Any]:
    return dict(OPTIONS.get(name, read_card(name).small))


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_to_input_normalises() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 1, 1] = 255
    tensor = to_input(images, CPU)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 2, 2), torch.float32)
    for channel in range(3):
        assert float(tensor[0, channel, 0, 0]) == pytest.approx(-MEAN_RGB[channel] / STD_RGB[channel])
        assert float(tensor[0, channel, 1, 1]) == pytest.approx((255 - MEAN_RGB[channel]) / STD_RGB[channel])


def test_to_input_is_channels_last_and_leaves_the_images_alone() -> None:
    images = _images(2, 5, 7, 3)
    images.flags.writeable = False  # as a memory map is
    before = images.copy()
    assert to_input(images, CPU).is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(images, before)


class _Coarse(nn.Module):
    """Sees 16 px around it in cells of 8 px, by maxima alone: its answer has no rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(images_NCHW.shape))
        cells_NCHW = F.max_pool2d(F.max_pool2d(images_NCHW, 8, ceil_mode=True), 3, 1, 1)
        spread_NCHW = cells_NCHW.repeat_interleave(8, 2).repeat_interleave(8, 3)
        return spread_NCHW[:, :, : images_NCHW.shape[2], : images_NCHW.shape[3]]


@pytest.fixture
def cut_small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets images be cut into windows of so many px."""

    def cut(window: int = 48, margin: int = 16, alignment: int = 8) -> None:
        monkeypatch.setattr(tiles, "MAX_WHOLE_PX", 1)
        monkeypatch.setattr(tiles, "WINDOW_PX", window)
        monkeypatch.setattr(tiles, "MARGIN_PX", margin)
        monkeypatch.setattr(tiles, "ALIGNMENT_PX", alignment)

    return cut


def _patches(num_images: int, height: int, width: int, size: int = 5) -> np.ndarray:
    """Images of square patches of one colour: neighbouring cells of a network differ."""
    small = _images(num_images, -(-height // size), -(-width // size), 3)
    return small.repeat(size, 1).repeat(size, 2)[:, :height, :width]


@pytest.mark.parametrize("size", [(97, 131), (48, 200), (203, 7), (160, 160)], ids=str)
def test_a_huge_image_is_predicted_as_if_it_were_whole(cut_small: Callable[..., None], size: tuple[int, int]) -> None:
    images, network = _patches(2, *size), _Coarse()
    whole = predict_masks(network, images)
    cut_small()
    masks = predict_masks(network, images)
    assert masks.dtype == np.uint8
    assert len(np.unique(masks)) > 1
    np.testing.assert_array_equal(masks, whole)


@pytest.mark.parametrize("change", [{"margin": 4}, {"alignment": 1}], ids=str)
def test_margin_and_alignment_are_what_makes_tiles_equal_to_the_whole(
    cut_small: Callable[..., None], change: dict[str, int]
) -> None:
    images = _patches(1, 97, 131)
    whole = predict_masks(_Coarse(), images)
    cut_small(**change)
    assert (predict_masks(_Coarse(), images) != whole).any()


def test_a_network_never_sees_more_than_a_window(cut_small: Callable[..., None]) -> None:
    network = _Coarse()
    cut_small()
    predict_masks(network, _images(3, 97, 131, 3))
    assert {(count, channels) for count, channels, *_ in network.sizes} == {(1, 3)}
    assert all(48 <= side < 48 + 8 for *_, height, width in network.sizes for side in (height, width))


def test_images_up_to_the_limit_are_predicted_whole_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_WHOLE_PX", 97 * 131)
    network = _Coarse()
    predict_masks(network, _images(3, 97, 131, 3))
    assert network.sizes == [(3, 3, 97, 131)]


class _Balanced(nn.Module):
    """An untrained network by which every class is likely somewhere: its statistics and logits suit the images."""

    def __init__(self, network: nn.Module, images: np.ndarray) -> None:
        super().__init__()
        network.train()
        for _ in range(20):
            network(to_input(images, CPU))
        self.network = network.eval()
        logits_NCHW = network(to_input(images, CPU))
        self.deviation, self.mean = torch.std_mean(logits_NCHW, dim=(0, 2, 3), keepdim=True)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NCHW: torch.Tensor = (self.network(images_NCHW) - self.mean) / self.deviation
        return logits_NCHW


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_tiles_of_the_projects_networks_are_close_to_the_whole(cut_small: Callable[..., None], name: str) -> None:
    torch.manual_seed(0)
    images = _patches(1, 384, 512, size=16)
    network = _Balanced(build_network(name, _options_of(name), 3), images)
    whole = predict_masks(network, images)
    cut_small(window=256, margin=96, alignment=64)
    differs = predict_masks(network, images) != whole
    assert np.bincount(whole.ravel(), minlength=3).min() > 0.01 * whole.size
    # A network with image-level context takes it over another piece: measured 0.4% for both that have it.
    assert differs.mean() <= {"unet": 0.0}.get(name, 0.01)


def test_the_most_likely_class_is_that_of_the_highest_logit() -> None:
    logits_NCHW = torch.tensor([[0.0, 3.0], [2.0, -1.0], [1.0, 3.0]]).view(1, 3, 1, 2)
    assert most_likely(logits_NCHW).tolist() == [[[1, 0]]]  # the first of two equals


@pytest.mark.parametrize("num_images", [1, 2])
def test_the_pieces_of_huge_images_are_together_the_whole(cut_small: Callable[..., None], num_images: int) -> None:
    images, network = _patches(num_images, 97, 131), _Coarse()
    (whole,) = give_logits(network, images)
    assert whole.place == (slice(0, num_images), slice(0, 97), slice(0, 131))
    cut_small()
    found, count = np.zeros((num_images, 3, 97, 131), np.float32), np.zeros((num_images, 97, 131), int)
    for piece in give_logits(network, images):
        batch, *area = piece.place
        found[batch, :, *area] = piece.logits_NCHW.numpy()
        count[piece.place] += 1
    assert (count == 1).all()
    np.testing.assert_array_equal(found, whole.logits_NCHW.numpy())


def test_nothing_learns_while_logits_are_given() -> None:
    network = nn.Conv2d(3, 2, 1)
    (piece,) = give_logits(network, _images(1, 4, 4, 3))
    assert not piece.logits_NCHW.requires_grad
