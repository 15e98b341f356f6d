"""Costs counted by hand, without computing anything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.inference import cost as cost_module
from segpipe.inference.cost import Cost, count_cost, without_content
from segpipe.inference.network import build_network

UNET = {"width": 2, "depth": 2}


def test_a_convolution_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_module, "build_network", lambda *_: nn.Conv2d(3, 5, 3, padding=1))
    # 3 * 3 * 3 multiply-adds for each of 5 outputs at 6 x 8 pixels.
    assert count_cost("any", {}, 5, (6, 8)) == Cost(num_parameters=5 * 27 + 5, num_flops=2 * 27 * 5 * 6 * 8)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_parameters_are_those_of_the_network(in_channels: int) -> None:
    network = build_network("unet", UNET, 3, in_channels)
    cost = count_cost("unet", UNET, 3, (32, 48), in_channels)
    assert cost.num_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert cost.num_flops > 0


def test_work_is_proportional_to_the_image() -> None:
    small, large = (count_cost("unet", UNET, 3, size).num_flops for size in ((32, 32), (64, 96)))
    assert large == 6 * small


def test_auxiliary_heads_are_parameters_and_no_work_in_evaluation() -> None:
    plain, supervised = (count_cost("unet", UNET | {"deep_supervision": flag}, 3, (32, 32)) for flag in (False, True))
    assert supervised.num_parameters > plain.num_parameters
    assert supervised.num_flops == plain.num_flops


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ConfigError, match="model 'unet': option widht: unknown; did you mean 'width'"):
        count_cost("unet", {"widht": 2}, 3, (32, 32))


def test_nothing_is_computed_and_chance_is_left_alone() -> None:
    state = torch.get_rng_state()
    assert without_content(lambda: build_network("unet", UNET, 3)).head.weight.is_meta  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.zeros(1).is_meta


def test_a_constructor_that_looks_at_numbers_is_run_as_it_is() -> None:
    assert without_content(lambda: torch.linspace(0, 1, 3)[1].item()) == 0.5
    with pytest.raises(RuntimeError, match="broken anyway"):
        without_content(_break)


def _break() -> None:
    raise RuntimeError("broken anyway")
