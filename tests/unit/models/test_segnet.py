"""SegNet: un-pooling against torch's own, and the decoder's mirror image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segpipe.choices import MODELS
from segpipe.models.segnet_vgg16 import SegNet, unpool


def _pooled(size: tuple[int, int], memory_format: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format)
    values, positions = F.max_pool2d(features, 2, ceil_mode=True, return_indices=True)
    return values, positions


def test_unpool_by_hand() -> None:
    values, positions = F.max_pool2d(torch.tensor([[[[1.0, 4, 3], [2, 0, 5]]]]), 2, ceil_mode=True, return_indices=True)
    assert unpool(values, positions, (2, 3)).tolist() == [[[[0, 4, 0], [0, 0, 5]]]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (3, 2)])
def test_unpool_is_torchs_with_its_gradient(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    values, positions = _pooled(size, memory_format)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    result, expected = unpool(ours, positions, size), F.max_unpool2d(theirs, positions, 2, output_size=size)
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=memory_format)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    result.backward(gradient)
    expected.backward(gradient)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.any()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Makes torch refuse operations that it counts as non-deterministic."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
def test_no_operation_is_non_deterministic() -> None:
    values, positions = _pooled((4, 4), torch.contiguous_format)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        F.max_unpool2d(values, positions, 2)
    SegNet(2, 3, width=2)(torch.randn(2, 3, 33, 40)).sum().backward()


def test_decoder_mirrors_the_encoder() -> None:
    module = SegNet(5, 3, width=2)
    convs = [[(m.in_channels, m.out_channels) for m in stage if isinstance(m, nn.Conv2d)] for stage in module.decoder]
    assert convs == [
        [(16, 16), (16, 16), (16, 16)],
        [(16, 16), (16, 16), (16, 8)],
        [(8, 8), (8, 8), (8, 4)],
        [(4, 4), (4, 2)],
        [(2, 2)],
    ]
    assert (module.head.in_channels, module.head.out_channels) == (2, 5)


@torch.no_grad()
def test_each_stage_takes_the_positions_of_its_own_pooling() -> None:
    """With stages that do nothing, only the largest values of 32x32 windows come back, at their places."""
    module = SegNet(1, 1, width=2)
    module.encoder.stages = nn.ModuleList(nn.Identity() for _ in range(5))
    module.decoder = nn.ModuleList(nn.Identity() for _ in range(5))
    module.head = nn.Identity()  # type: ignore[assignment]
    images = torch.randn(1, 1, 45, 70, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(images)
    for top in (0, 32):
        for left in (0, 32, 64):
            window = images[0, 0, top : top + 32, left : left + 32]
            is_largest = window == window.max()
            expected[0, 0, top : top + 32, left : left + 32] = window * is_largest
    assert torch.equal(module(images), expected)


def test_number_of_parameters_by_hand() -> None:
    # VGG16's convolutions with batch norms; the mirrored ones: 5 of 512 to 512, then 512 to 256 and so on; the head.
    encoder = 14_714_688 + 2 * 4224
    pairs = [(512, 512)] * 5 + [(512, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    decoder = sum(9 * wide * narrow + narrow + 2 * narrow for wide, narrow in pairs)
    with torch.device("meta"):
        module = MODELS.call("segnet_vgg16", num_classes=11, in_channels=3, pretrained=False)
    assert sum(p.numel() for p in module.parameters()) == encoder + decoder + 9 * 64 * 11 + 11
