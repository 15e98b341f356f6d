"""What every model keeps, found by the registry."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from segpipe.models import list_models
from segpipe.registry import MODELS

NUM_CLASSES = 5


@pytest.fixture(scope="module")
def build() -> Callable[[str], nn.Module]:
    """Builds each model once, in evaluation mode."""
    built: dict[str, nn.Module] = {}

    def build(name: str) -> nn.Module:
        if name not in built:
            torch.manual_seed(0)
            with torch.inference_mode(False):
                built[name] = MODELS.call(name, num_classes=NUM_CLASSES)
        return built[name].eval()

    return build


def _images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (32, 33)], ids=str)
@pytest.mark.parametrize("name", list_models())
@torch.inference_mode()
def test_logits_have_the_images_size_and_are_the_same_each_time(
    name: str, size: tuple[int, int], build: Callable[[str], nn.Module]
) -> None:
    images = _images(1, 3, *size)
    logits = build(name)(images)
    assert logits.shape == (1, NUM_CLASSES, *size)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    if size == (64, 64):
        assert torch.equal(build(name)(images), logits)


@pytest.mark.parametrize("name", list_models())
def test_every_parameter_gets_a_gradient(name: str, build: Callable[[str], nn.Module]) -> None:
    module = build(name).train()
    module.zero_grad()
    logits = module(_images(2, 3, 64, 64))
    nn.functional.cross_entropy(logits, torch.arange(2 * 64 * 64).view(2, 64, 64) % NUM_CLASSES).backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name
    module.zero_grad()


@pytest.mark.parametrize("name", list_models())
@torch.inference_mode()
def test_weights_survive_safetensors(name: str, build: Callable[[str], nn.Module], tmp_path: Path) -> None:
    module = build(name)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(2)
    other = MODELS.call(name, num_classes=NUM_CLASSES).eval()
    images = _images(1, 3, 64, 64)
    assert not torch.equal(other(images), module(images))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(images), module(images))


@pytest.mark.parametrize("name", list_models())
@torch.inference_mode()
def test_channels_last_gives_the_same_logits(name: str, build: Callable[[str], nn.Module]) -> None:
    images = _images(1, 3, 64, 64)
    expected = build(name)(images)
    module = copy.deepcopy(build(name)).to(memory_format=torch.channels_last)
    logits = module(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", list_models())
def test_a_sample_does_not_depend_on_its_batch_in_evaluation(name: str, build: Callable[[str], nn.Module]) -> None:
    images = _images(2, 3, 32, 48)
    with torch.inference_mode():
        together, alone = build(name)(images), build(name)(images[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-4)
