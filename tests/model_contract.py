"""What every model of the zoo keeps, as checks that take a name; the tests of the zoo and of a new model run all."""

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from segpipe.choices import MODELS
from segpipe.models import has_pretrained, list_models, read_card

NUM_CLASSES = 5
ONEDNN_BLOCK = 16  # channels that it computes together, with AVX-512


def build(name: str, *, num_classes: int = NUM_CLASSES, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Gives a model by its small options, in evaluation mode, without pretrained weights; for the caller alone."""
    return copy.deepcopy(_built(MODELS.function_of(name), name, num_classes, in_channels, seed))


@functools.lru_cache(maxsize=2)  # to draw the weights of a large one takes longer than a check
def _built(code: Callable[..., nn.Module], name: str, num_classes: int, in_channels: int, seed: int) -> nn.Module:
    """Builds a model once; `code` is its function, so that a changed file of the same name is another model."""
    torch.manual_seed(seed)
    context = {"pretrained": False} if has_pretrained(name) else {}
    options = read_card(name).small
    module: nn.Module = MODELS.call(name, options, num_classes=num_classes, in_channels=in_channels, **context)
    return module.eval()


def images_of(*shape: int) -> torch.Tensor:
    """Gives the same random images each time, (N, C, H, W) float32."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def outputs_of(module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gives all logits of a forward pass, the main ones first."""
    output = module(images)
    return output if isinstance(output, tuple) else (output,)


@torch.no_grad()
def check_logits_have_the_images_size_and_are_the_same_each_time(name: str) -> None:
    module = build(name)
    for size in ((64, 64), (97, 131), (32, 33)):
        images = images_of(1, 3, *size)
        logits = module(images)
        assert logits.shape == (1, NUM_CLASSES, *size)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        if size == (64, 64):
            assert torch.equal(module(images), logits)


def check_every_parameter_gets_a_gradient(name: str) -> None:
    module = build(name).train()
    target = torch.arange(2 * 64 * 64).view(2, 64, 64) % NUM_CLASSES
    outputs = outputs_of(module, images_of(2, 3, 64, 64))
    assert outputs[0].shape == (2, NUM_CLASSES, 64, 64)
    loss = torch.zeros(())
    for logits in outputs:
        assert logits.shape[:2] == (2, NUM_CLASSES)
        resized = nn.functional.interpolate(logits, (64, 64), mode="bilinear")
        loss = loss + nn.functional.cross_entropy(resized, target)
    loss.backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@torch.no_grad()
def check_no_layer_makes_onednn_write_past_its_buffer(name: str) -> None:
    """A 1x1 convolution with a stride and few channels does, in the backward pass (oneDNN issue 6035)."""
    for layer_name, layer in build(name).named_modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.in_channels < ONEDNN_BLOCK:
            assert layer.stride == (1, 1), layer_name


def check_weights_survive_safetensors(name: str) -> None:
    module, other = build(name), build(name, seed=2)
    images = images_of(1, 3, 64, 64)
    assert not torch.equal(other(images), module(images))
    with tempfile.TemporaryDirectory() as folder:
        save_file(module.state_dict(), Path(folder) / "weights.safetensors")
        other.load_state_dict(load_file(Path(folder) / "weights.safetensors"))
    assert torch.equal(other(images), module(images))


@torch.no_grad()
def check_channels_last_gives_the_same_logits(name: str) -> None:
    module = build(name)
    images = images_of(1, 3, 64, 64)
    expected = module(images)
    module = module.to(memory_format=torch.channels_last)
    logits = module(images.to(memory_format=torch.channels_last))
    _assert_nearly_equal(logits, expected)


def _assert_nearly_equal(logits: torch.Tensor, expected: torch.Tensor) -> None:
    """Other kernels sum in another order: a hundred layers of that are a thousandth of the largest logit at most."""
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@torch.no_grad()
def check_a_sample_does_not_depend_on_its_batch_in_evaluation(name: str) -> None:
    module, images = build(name), images_of(2, 3, 32, 48)
    _assert_nearly_equal(module(images)[1:], module(images[1:]))


@torch.no_grad()
def check_images_of_other_channels(name: str) -> None:
    for in_channels in (1, 4):
        logits = build(name, in_channels=in_channels)(images_of(1, in_channels, 64, 64))
        assert logits.shape == (1, NUM_CLASSES, 64, 64)


@torch.no_grad()
def check_a_copy_computes_the_same(name: str) -> None:
    """The moving average of the weights is such a copy."""
    module, images = build(name), images_of(1, 3, 64, 64)
    assert torch.equal(copy.deepcopy(module)(images), module(images))


def check_number_of_parameters_is_the_published_one(name: str) -> None:
    published = read_card(name).published
    if published is None:
        return
    num_classes, expected = published
    context = {"pretrained": False} if has_pretrained(name) else {}
    with torch.device("meta"):
        module = MODELS.call(name, num_classes=num_classes, in_channels=3, **context)
    # Without auxiliary heads, which serve the training alone and are not counted by anyone who publishes.
    num_parameters = sum(p.numel() for key, p in module.named_parameters() if not key.startswith("auxiliary"))
    num_statistics = sum(
        b.numel() for key, b in module.named_buffers() if key.endswith(("running_mean", "running_var"))
    )
    counts = num_parameters, num_parameters + num_statistics
    assert any(abs(count / expected - 1) <= 0.01 for count in counts), f"{counts}, published {expected / 1e6:.2f} M"


def check_training_takes_odd_sizes(name: str) -> None:
    """By default options, where nothing is computed: only shapes are."""
    context = {"pretrained": False} if has_pretrained(name) else {}
    with torch.device("meta"):
        module = MODELS.call(name, num_classes=NUM_CLASSES, in_channels=3, **context).train()
        for size in ((97, 131), (32, 32)):
            outputs = outputs_of(module, torch.empty(2, 3, *size))
            assert outputs[0].shape == (2, NUM_CLASSES, *size)
            assert all(logits.shape[:2] == (2, NUM_CLASSES) for logits in outputs)


def check_card_and_parts(name: str) -> None:
    card = read_card(name)
    assert len(card.paper) > 20
    module = build(name)
    if has_pretrained(name):
        assert any(key.startswith("encoder.") for key, _ in module.named_parameters())


PERIOD_PX = 64
# How far from a border the pixels are compared, and how much the windows are shifted: a multiple of every stride.
SHIFT_PX = 32


def periodic_images(height_px: int, width_px: int, shift_px: int = 0) -> torch.Tensor:
    """Gives noise (1, 3, H, W) that repeats itself: each window of whole periods holds the same pixels.

    So means over an image and poolings to a grid are the same in every such window, and what differs between two
    windows is the place of a cell, or the padding at the border.
    """
    period = images_of(1, 3, PERIOD_PX, PERIOD_PX)
    columns = torch.arange(shift_px, shift_px + width_px) % PERIOD_PX
    return period[:, :, torch.arange(height_px) % PERIOD_PX][..., columns]


@torch.no_grad()
def trained_by_statistics(module: nn.Module) -> nn.Module:
    """Lets batch norms see images, so that the values in the network have the size of those in a trained one."""
    module.train()
    for _ in range(3):
        images = periodic_images(2 * PERIOD_PX, 2 * PERIOD_PX).repeat(2, 1, 1, 1)
        module(images + 0.1 * images_of(*images.shape))
    return module.eval()


@torch.no_grad()
def place_differences(module: nn.Module, tile_px: int, whole_px: int) -> tuple[float, float]:
    """Gives the greatest difference of logits in the middle of a tile, as a share of their spread.

    Args:
        module: in evaluation mode.
        tile_px: height and width of the tile, a multiple of six periods.
        whole_px: width of the image, another such multiple.

    Returns:
        That to the whole image, and that to the same pixels in a tile that begins `SHIFT_PX` later.
    """
    first = (tile_px - PERIOD_PX) // 2
    rows = columns = slice(first, first + PERIOD_PX)
    moved = slice(first - SHIFT_PX, first - SHIFT_PX + PERIOD_PX)
    whole = module(periodic_images(tile_px, whole_px))[..., rows, columns]
    tile = module(periodic_images(tile_px, tile_px))[..., rows, columns]
    shifted = module(periodic_images(tile_px, tile_px, SHIFT_PX))[..., rows, moved]
    spread = (whole - whole.mean(dim=(2, 3), keepdim=True)).abs().max()
    return float((tile - whole).abs().max() / spread), float((shifted - tile).abs().max() / spread)


CHECKS = {key.removeprefix("check_"): value for key, value in list(globals().items()) if key.startswith("check_")}

__all__ = [
    "CHECKS",
    "NUM_CLASSES",
    "build",
    "images_of",
    "list_models",
    "outputs_of",
    "place_differences",
    "trained_by_statistics",
]
