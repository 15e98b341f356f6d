"""FC-DenseNet of all three sizes."""

import copy
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segpipe.choices import MODELS
from segpipe.models import read_card
from segpipe.models.parts import checkpointing, fc_densenet
from segpipe.models.parts.fc_densenet import FCDenseNet

NAMES = ["fc_densenet56", "fc_densenet67", "fc_densenet103"]


def build(name: str, **options: Any) -> FCDenseNet:
    torch.manual_seed(0)
    module: FCDenseNet = MODELS.call(name, options, num_classes=11, in_channels=3)
    return module


def build_small(*, is_checkpointing: bool = True, dropout: float = 0.2) -> FCDenseNet:
    torch.manual_seed(0)
    options: dict[str, Any] = {"growth": 3, "first_width": 4, "dropout": dropout, "checkpointing": is_checkpointing}
    return FCDenseNet(5, 3, (1, 2, 2), **options)


def draw_images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "num_layers"), [("fc_densenet56", 56), ("fc_densenet67", 67), ("fc_densenet103", 103)]
)
def test_the_names_number_is_that_of_the_convolutions(name: str, num_layers: int) -> None:
    with torch.device("meta"):
        module = build(name)
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == num_layers


def test_channels_are_those_of_the_papers_table_2() -> None:
    """With the correction in the authors' README: 896, 1088, 816, 384 instead of 880, 1072, 800, 368 (and 576)."""
    with torch.device("meta"):
        module = build("fc_densenet103")
    assert module.first.out_channels == 48
    assert [t[0].num_features for t in module.transitions_down] == [112, 192, 304, 464, 656]

    def num_channels_behind(block: nn.ModuleList) -> int:
        last = block[-1]
        return last[0].num_features + last[2].out_channels

    assert num_channels_behind(module.bottom) == 896
    assert [num_channels_behind(block) for block in module.blocks_up] == [1088, 816, 576, 384, 256]
    assert module.head[0].in_channels == 256


@pytest.mark.parametrize(
    ("name", "num_millions"), [("fc_densenet56", 1.4), ("fc_densenet67", 3.5), ("fc_densenet103", 9.4)]
)
def test_parameters_and_running_statistics_together_are_the_papers_count(name: str, num_millions: float) -> None:
    """The paper says 1.5 of the first; see its file."""
    with torch.device("meta"):
        module = build(name)
    statistics = [buffer for buffer in module.buffers() if buffer.ndim == 1]
    num_values = sum(tensor.numel() for tensor in [*module.parameters(), *statistics])
    assert round(num_values / 1e6, 1) == num_millions
    assert read_card(name).published in {None, (11, num_millions * 1e6)}


def compute_slowly(module: FCDenseNet, images_NCHW: torch.Tensor) -> torch.Tensor:
    """The network as the authors write it: one growing stack, concatenated after every layer."""

    def grow(block: nn.ModuleList, stack_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        new = []
        for norm, _, convolution in block:
            new.append(convolution(F.relu(norm(stack_NCHW))))
            stack_NCHW = torch.cat([stack_NCHW, new[-1]], dim=1)
        return stack_NCHW, torch.cat(new, dim=1)

    stack_NCHW, skips = module.first(images_NCHW), []
    for block, (norm, _, convolution, _, _) in zip(module.blocks_down, module.transitions_down, strict=True):
        stack_NCHW, _ = grow(block, stack_NCHW)
        skips.append(stack_NCHW)
        stack_NCHW = F.max_pool2d(convolution(F.relu(norm(stack_NCHW))), 2)
    stack_NCHW, new_NCHW = grow(module.bottom, stack_NCHW)
    for (transition,), block, skip_NCHW in zip(module.transitions_up, module.blocks_up, reversed(skips), strict=True):
        up_NCHW = F.conv_transpose2d(new_NCHW, transition.weight, stride=2)
        up_NCHW = up_NCHW[:, :, : skip_NCHW.shape[2], : skip_NCHW.shape[3]]
        stack_NCHW, new_NCHW = grow(block, torch.cat([up_NCHW, skip_NCHW], dim=1))
    logits_NCHW: torch.Tensor = module.head[0](stack_NCHW)
    return logits_NCHW


@pytest.mark.parametrize("size", [(16, 24), (13, 19)])
@pytest.mark.parametrize("is_training", [False, True])
def test_logits_equal_those_of_the_growing_stack(size: tuple[int, int], is_training: bool) -> None:
    module = build_small(dropout=0.0).train(is_training)
    images = draw_images(2, 3, *size)
    expected = compute_slowly(copy.deepcopy(module), images)
    assert expected.shape == (2, 5, *size)
    torch.testing.assert_close(module(images), expected)


def step(module: nn.Module) -> torch.Tensor:
    torch.manual_seed(7)
    logits: torch.Tensor = module(draw_images(2, 3, 13, 19))
    F.cross_entropy(logits, torch.arange(2 * 13 * 19).view(2, 13, 19) % 5).backward()
    return logits.detach()


def test_a_step_with_checkpointing_and_dropout_gives_the_same_as_one_without() -> None:
    saving, plain = build_small().train(), build_small(is_checkpointing=False).train()
    assert torch.equal(step(saving), step(plain))
    for (name, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, ours), theirs in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_random_numbers_are_restored_for_the_dropout_of_the_transitions_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would see it if they were not."""

    def run_carelessly(module: nn.Module, *inputs: torch.Tensor) -> Any:
        return checkpointing.checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)

    plain = build_small(is_checkpointing=False).train()
    step(plain)
    monkeypatch.setattr(fc_densenet, "run_checkpointed", run_carelessly)
    careless = build_small().train()
    step(careless)
    assert not torch.equal(careless.first.weight.grad, plain.first.weight.grad)


class LiveStorages(TorchDispatchMode):
    """Knows the memory of all tensors computed in its context that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.references: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.references[id(storage)] = weakref.ref(storage)
        return output

    def num_bytes(self) -> int:
        storages = [reference() for reference in self.references.values()]
        return sum(storage.nbytes() for storage in storages if storage is not None)


def count_bytes_kept(*, is_checkpointing: bool) -> int:
    """Gives what a training keeps of its forward pass over an image of 64x64, without dropout's masks."""
    module = build("fc_densenet56", growth=4, first_width=8, dropout=0.0, checkpointing=is_checkpointing).train()
    module.dropout = nn.Identity()
    images = draw_images(1, 3, 64, 64)
    with LiveStorages() as live:
        logits = module(images)
    num_bytes = live.num_bytes()
    assert logits.requires_grad
    return num_bytes


def test_checkpointing_keeps_each_feature_once_and_nothing_else() -> None:
    # Channels at 1/1, 1/2 .. 1/32: the first convolution or the transition down, the new features on the way down, the
    # up-sampled ones, which are a row and a column larger, the new ones on the way up; and 11 logits.
    num_values = 11 * 64**2
    for level, channels in enumerate([8, 24, 40, 56, 72]):
        size_px = 64 >> level
        num_values += (channels + 16 + 16) * size_px**2 + 16 * (size_px + 1) ** 2
    num_values += (88 + 16) * 2**2
    num_bytes = count_bytes_kept(is_checkpointing=True)
    assert 4 * num_values <= num_bytes < 1.001 * 4 * num_values
    assert count_bytes_kept(is_checkpointing=False) > 5 * num_bytes


def test_dropout_serves_the_training_alone() -> None:
    module = build_small(dropout=0.5)
    images = draw_images(1, 3, 32, 32)
    assert torch.equal(module.eval()(images), module(images))
    assert not torch.equal(module.train()(images), module(images))


def test_weights_are_uniform_within_he_s_bound_and_biases_zero() -> None:
    layer = build("fc_densenet56").bottom[0][2]
    bound = (6 / (layer.in_channels * 9)) ** 0.5
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert not layer.bias.any()
