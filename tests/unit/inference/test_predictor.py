"""The predictor: the network alone, in windows, mirrored, at several sizes, refined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segpipe.config.evaluate import Crf, Inference
from segpipe.inference import predictor, tiles
from segpipe.inference.crf import refine
from segpipe.inference.logits import to_input
from segpipe.inference.network import build_network
from segpipe.inference.predictor import Predictor
from segpipe.inference.tiles import plan_spans
from segpipe.models import read_card
from segpipe.stages import evaluate

CPU = torch.device("cpu")
CRF = Crf(
    iterations=2,
    appearance_weight=4.0,
    appearance_px=10.0,
    appearance_color=3.0,
    smoothness_weight=1.0,
    smoothness_px=1.0,
)

# The starter's, the largest receptive field and the smallest: what is asked of every model is in its contract.
NETWORKS = ["compact_fpn", "lraspp_mobilenet_v3_large", "unet"]
OPTIONS = {"unet": {"width": 2, "depth": 2}, "compact_fpn": {"width": 8, "pyramid_width": 8}}


def _options_of(name: str) -> dict[str, Any]:
    return dict(OPTIONS.get(name, read_card(name).small))


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def _patches(num_images: int, height: int, width: int, size: int = 5) -> np.ndarray:
    """Images of square patches of one colour: neighbouring cells of a network differ."""
    small = _images(num_images, -(-height // size), -(-width // size), 3)
    return small.repeat(size, 1).repeat(size, 2)[:, :height, :width]


class _Coarse(nn.Module):
    """Sees 16 px around it in cells of 8 px."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(images_NCHW.shape))
        cells_NCHW = F.max_pool2d(F.max_pool2d(images_NCHW, 8, ceil_mode=True), 3, 1, 1)
        spread_NCHW = cells_NCHW.repeat_interleave(8, 2).repeat_interleave(8, 3)
        return spread_NCHW[:, :, : images_NCHW.shape[2], : images_NCHW.shape[3]]


class _Pointwise(nn.Module):
    """Its logits are its input: what it says of a pixel does not depend on any other."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW


def _logits(module: nn.Module, images: np.ndarray, inference: Inference | None = None) -> torch.Tensor:
    """Puts the pieces together, and checks that they cover each pixel once."""
    found: torch.Tensor | None = None
    count = np.zeros(images.shape[:3], int)
    for piece in Predictor(module, inference or Inference()).predict(images):
        if found is None:
            found = torch.full((len(images), piece.logits_NCHW.shape[1], *images.shape[1:3]), torch.nan)
        batch, *area = piece.place
        found[batch, :, *area] = piece.logits_NCHW
        count[piece.place] += 1
    assert found is not None
    assert (count == 1).all()
    return found


@pytest.mark.parametrize("inference", [Inference(), Inference(flip=True), Inference(window_px=64)], ids=str)
def test_bf16_is_computed_where_the_device_does(monkeypatch: pytest.MonkeyPatch, inference: Inference) -> None:
    network, images = nn.Conv2d(3, 4, 3, padding=1), _images(2, 96, 96, 3)
    in_bf16 = inference.model_copy(update={"precision": "bf16"})
    expected = _logits(network, images, inference)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    torch.testing.assert_close(_logits(network, images, in_bf16), expected, rtol=0, atol=0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    found = _logits(network, images, in_bf16)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_what_is_registered_is_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Inference(flip=True, precision="bf16")
    for can, registered in ((True, wanted), (False, Inference(flip=True))):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"amx_bf16": can})
        assert evaluate._choose_inference(wanted, CPU) == registered


def test_the_number_format_changes_no_file_of_earlier_releases() -> None:
    assert "precision" not in Inference(flip=True).to_json()
    for inference in (Inference(flip=True), Inference(precision="bf16")):
        assert Inference.model_validate(inference.to_json()) == inference


@pytest.mark.parametrize("size", [(97, 131), (64, 200), (203, 7), (160, 160), (333, 70)], ids=str)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.8])
def test_windows_of_a_pointwise_network_are_the_whole(size: tuple[int, int], overlap: float) -> None:
    images = _patches(2, *size)
    found = _logits(_Pointwise(), images, Inference(window_px=64, overlap=overlap))
    torch.testing.assert_close(found, to_input(images, CPU), rtol=1e-5, atol=1e-5)


def test_the_logits_of_windows_are_their_weighted_mean() -> None:
    class _Numbered(nn.Module):
        calls = 0.0

        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.full_like(images_NCHW, self.calls)

    found = _logits(_Numbered(), _images(1, 64, 192, 3), Inference(window_px=128))
    first, second = tiles.plan_spans(192, 128, 0.25)
    expected = torch.zeros(192)
    expected[first.place] += 1.0 * first.weights
    expected[second.place] += 2.0 * second.weights
    torch.testing.assert_close(found, expected.expand(1, 3, 64, 192))
    assert float(expected[0]) == 1.0
    assert 1.0 < float(expected[96]) < 2.0


def test_there_is_no_seam_between_windows() -> None:
    """Each window is off by a constant; the step from one pixel to the next stays small everywhere."""
    torch.manual_seed(0)

    class _Biased(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            return torch.rand(1) + torch.zeros_like(images_NCHW)

    found = _logits(_Biased(), _images(1, 600, 700, 3), Inference(window_px=256))[0, 0]
    assert float(found.max() - found.min()) > 0.5
    assert float(found.diff(dim=0).abs().max()) < 0.03
    assert float(found.diff(dim=1).abs().max()) < 0.03


def test_a_network_never_sees_more_than_a_window() -> None:
    network = _Coarse()
    Predictor(network, Inference(window_px=64)).predict_masks(_images(3, 197, 131, 3))
    assert {(count, channels) for count, channels, *_ in network.sizes} == {(1, 3)}
    assert all(64 <= side < 128 for *_, height, width in network.sizes for side in (height, width))


def test_images_up_to_the_limit_are_predicted_whole_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_WHOLE_PX", 97 * 131)
    network = _Coarse()
    Predictor(network).predict_masks(_images(3, 97, 131, 3))
    assert network.sizes == [(3, 3, 97, 131)]
    assert Predictor(network).predicts_whole(97, 131)
    assert not Predictor(network).predicts_whole(97, 132)
    assert not Predictor(network, Inference(window_px=96)).predicts_whole(97, 50)


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


@pytest.fixture
def cut_small(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets every image be a huge one, with windows of 256 px."""

    def cut() -> None:
        monkeypatch.setattr(tiles, "MAX_WHOLE_PX", 1)
        monkeypatch.setattr(predictor, "LARGE_WINDOW_PX", 256)

    return cut


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_windows_of_the_projects_networks_are_close_to_the_whole(cut_small: Callable[[], None], name: str) -> None:
    torch.manual_seed(0)
    images = _patches(1, 384, 512, size=16)
    network = Predictor(_Balanced(build_network(name, _options_of(name), 3), images))
    whole = network.predict_masks(images)
    cut_small()
    differs = network.predict_masks(images) != whole
    assert np.bincount(whole.ravel(), minlength=3).min() > 0.01 * whole.size
    assert differs.mean() <= MOST_DIFFERENT[name]


# Share of the pixels. A network with image-level context takes it over a window instead of the image; "unet" sees only
# a few pixels around, and blending rounds differently.
MOST_DIFFERENT = {"unet": 0.0001, "compact_fpn": 0.02, "lraspp_mobilenet_v3_large": 0.02}


def _probabilities(*logits: torch.Tensor) -> torch.Tensor:
    return torch.stack([one.softmax(dim=1) for one in logits]).mean(dim=0)


@torch.inference_mode()
def test_a_mirrored_prediction_is_averaged() -> None:
    torch.manual_seed(0)
    network, images = nn.Conv2d(3, 4, 3, padding=1), _images(2, 9, 14, 3)
    inputs = to_input(images, CPU)
    expected = _probabilities(network(inputs), network(inputs.flip(3)).flip(3))
    found = _logits(network, images, Inference(flip=True))
    torch.testing.assert_close(found.exp(), expected)
    assert float((expected - _probabilities(network(inputs))).abs().max()) > 0.1


@torch.inference_mode()
def test_predictions_at_several_sizes_are_averaged() -> None:
    torch.manual_seed(0)
    network, images = nn.Conv2d(3, 4, 3, padding=1), _images(1, 20, 30, 3)
    inputs = to_input(images, CPU)

    def at(size: tuple[int, int]) -> torch.Tensor:
        logits = network(F.interpolate(inputs, size, mode="bilinear", align_corners=False))
        return F.interpolate(logits, (20, 30), mode="bilinear", align_corners=False)

    expected = _probabilities(at((10, 15)), network(inputs), at((30, 45)))
    found = _logits(network, images, Inference(scales=[0.5, 1.0, 1.5]))
    torch.testing.assert_close(found.exp(), expected)


def test_the_crf_refines_what_the_network_says() -> None:
    images = _patches(1, 24, 32)
    with torch.inference_mode():
        before = to_input(images, CPU).softmax(dim=1)
    expected = refine(before, torch.tensor(images), num_iterations=2, appearance_px=10.0, smoothness_weight=1.0)
    found = _logits(_Pointwise(), images, Inference(crf=CRF))
    torch.testing.assert_close(found.exp(), expected, rtol=1e-4, atol=1e-6)
    assert float((expected - before).abs().max()) > 0.01


def _refined(logits: torch.Tensor, images: np.ndarray) -> torch.Tensor:
    options = CRF.model_dump()
    return refine(logits.softmax(dim=1), torch.tensor(images), num_iterations=options.pop("iterations"), **options)


def test_the_crf_refines_what_windows_were_blended_to() -> None:
    """In each window it would see 64 px of the image, and refine shared pixels several times."""
    images = _patches(1, 100, 150)
    blended = _logits(_Coarse(), images, Inference(window_px=64))
    found = _logits(_Coarse(), images, Inference(window_px=64, crf=CRF))
    torch.testing.assert_close(found.exp(), _refined(blended, images))


def test_a_huge_image_is_refined_in_large_windows_that_hold_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_WHOLE_PX", 128 * 128)
    monkeypatch.setattr(predictor, "LARGE_WINDOW_PX", 128)
    images, inference = _patches(1, 90, 192), Inference(window_px=64, overlap=0.5, crf=CRF)
    network = _Coarse()
    found = _logits(network, images, inference)
    assert all(64 <= side < 128 for *_, height, width in network.sizes for side in (height, width))
    spans = plan_spans(192, 128, 0.5)
    assert [span.place for span in spans] == [slice(0, 128), slice(64, 192)]
    expected = torch.zeros_like(found)
    for span in spans:
        part = images[:, :, span.place]
        blended = _logits(_Coarse(), part, Inference(window_px=64, overlap=0.5))
        expected[..., span.place] += span.weights * _refined(blended, part).log()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_all_at_once_gives_probabilities_and_masks_of_the_highest() -> None:
    images = _patches(1, 150, 100)
    inference = Inference(window_px=64, flip=True, scales=[0.5, 1.0], crf=CRF)
    wanted = Predictor(_Coarse(), inference)
    masks = wanted.predict_masks(images)
    for piece in wanted.predict(images):
        probabilities = piece.probabilities_NCHW
        assert not probabilities.isnan().any()
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones_like(probabilities[:, 0]))
        np.testing.assert_array_equal(masks[piece.place], probabilities.max(dim=1).indices.numpy())


def test_a_class_of_no_probability_is_no_infinity() -> None:
    class _Certain(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            return torch.tensor([500.0, -500.0]).view(1, 2, 1, 1).expand(1, 2, *images_NCHW.shape[2:])

    found = _logits(_Certain(), _images(1, 4, 4, 3), Inference(flip=True))
    assert found.isfinite().all()


def test_nothing_learns_while_a_network_predicts() -> None:
    (piece,) = Predictor(nn.Conv2d(3, 2, 1)).predict(_images(1, 4, 4, 3))
    assert not piece.logits_NCHW.requires_grad
