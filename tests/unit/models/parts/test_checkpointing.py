import copy

import pytest
import torch
from torch import nn

from segpipe.models.parts import checkpointing
from segpipe.models.parts.checkpointing import always_checkpointed, run_checkpointed


class Counted(nn.Module):
    """Counts how often it is run, and how often to its end."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.num_starts = self.num_ends = 0

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        self.num_starts += 1
        output_NCHW = self.layers(features_NCHW)
        self.num_ends += 1
        return output_NCHW


def build_module(momentum: float | None = 0.1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(3, momentum=momentum),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3),
        nn.Dropout(0.5),
        nn.BatchNorm2d(4, momentum=momentum),
        nn.ReLU(),
    ).train()


def step(module: nn.Module, *, checkpointing: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives the output, and the gradient of the input, of one training step with its own random numbers."""
    torch.manual_seed(3)
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    output = run_checkpointed(module, images) if checkpointing else module(images)
    # Random numbers between the forward and the backward pass, as other layers draw them.
    torch.rand(5)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    assert images.grad is not None
    return output.detach(), images.grad


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_step_gives_the_same_output_gradients_and_statistics_as_without(momentum: float | None) -> None:
    plain = build_module(momentum)
    saving = copy.deepcopy(plain)
    for _ in range(2):
        for ours, theirs in zip(step(saving, checkpointing=True), step(plain, checkpointing=False), strict=True):
            assert torch.equal(ours, theirs)
    for (name, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, ours), theirs in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    assert saving[0].num_batches_tracked == 2


def test_without_the_shield_the_statistics_are_updated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "_shield_buffers", lambda module: checkpointing.nullcontext())
    module = build_module()
    step(module, checkpointing=True)
    assert module[0].num_batches_tracked == 2


def test_the_buffers_stay_the_same_tensors() -> None:
    module = build_module()
    before = dict(module.named_buffers())
    step(module, checkpointing=True)
    assert all(buffer is before[name] for name, buffer in module.named_buffers())
    assert len(before) == 6


def test_the_buffers_are_back_after_an_error_in_the_second_run() -> None:
    class FailsOnceMore(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.num_runs = nn.BatchNorm2d(3), 0

        def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
            self.num_runs += 1
            if self.num_runs > 1:
                raise MemoryError
            return self.norm(features_NCHW)

    module = FailsOnceMore()
    mean = module.norm.running_mean
    with pytest.raises(MemoryError):
        run_checkpointed(module, torch.randn(2, 3, 4, 4)).sum().backward()
    assert module.norm.running_mean is mean


def test_only_the_input_is_kept_and_a_last_convolution_is_not_computed_twice() -> None:
    module = Counted(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1)).train()
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    images = torch.randn(2, 3, 8, 8)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run_checkpointed(module, images)
    assert kept == [images.data_ptr()]
    output.sum().backward()
    assert (module.num_starts, module.num_ends) == (2, 1)


@pytest.mark.parametrize(("is_training", "has_gradients"), [(False, True), (True, False)])
def test_it_is_a_plain_call_in_evaluation_and_without_gradients(
    monkeypatch: pytest.MonkeyPatch, is_training: bool, has_gradients: bool
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr(checkpointing, "checkpoint", refuse)
    module, images = build_module().train(is_training), torch.randn(2, 3, 8, 8)
    with torch.set_grad_enabled(has_gradients):
        assert run_checkpointed(module, images).shape == (2, 4, 6, 6)


def test_a_module_that_is_always_checkpointed_keeps_its_names_and_results_and_less_memory() -> None:
    plain = nn.Sequential(build_module(), nn.Conv2d(4, 2, 1)).train()
    saving = copy.deepcopy(plain)
    always_checkpointed(saving[0])
    assert saving.state_dict().keys() == plain.state_dict().keys()
    for ours, theirs in zip(step(saving, checkpointing=False), step(plain, checkpointing=False), strict=True):
        assert torch.equal(ours, theirs)
    for (name, ours), theirs in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name

    def count_kept(module: nn.Module) -> int:
        kept: set[int] = set()

        def remember(tensor: torch.Tensor) -> torch.Tensor:
            kept.add(tensor.untyped_storage().data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            output = module(torch.randn(2, 3, 8, 8))
        assert output.requires_grad
        return len(kept)

    assert count_kept(saving) < count_kept(plain)


def test_a_part_that_gives_several_maps_and_takes_options_is_checkpointed_too() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = build_module()

        def forward(self, images_NCHW: torch.Tensor, *, factor: float) -> list[torch.Tensor]:
            features_NCHW = self.layers(images_NCHW)
            return [features_NCHW, factor * features_NCHW]

    plain = Encoder().train()
    saving = copy.deepcopy(plain)
    always_checkpointed(saving)
    gradients = []
    for module in (plain, saving):
        torch.manual_seed(1)
        first, second = module(torch.randn(2, 3, 8, 8), factor=2.0)
        (first + second).square().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    assert all(map(torch.equal, *gradients))
