"""The context module against the paper's table 1 and equations 4 and 5."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segpipe.models.parts.context import build_context, initialise_identity


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize(
    ("form", "widths"), [("basic", [3] * 8), ("large", [6, 6, 12, 24, 48, 96, 96, 3])], ids=["basic", "large"]
)
def test_layers_are_those_of_table_1(form: str, widths: list[int]) -> None:
    module = build_context(form, 3)
    convs = _convs(module)
    assert [conv.out_channels for conv in convs] == widths
    assert [conv.dilation[0] for conv in convs] == [1, 1, 2, 4, 8, 16, 1, 1]
    assert [conv.kernel_size[0] for conv in convs] == [3] * 7 + [1]
    assert [type(layer) for layer in module] == [nn.Conv2d, nn.ReLU] * 7 + [nn.Conv2d]


def test_a_cell_sees_67_by_67() -> None:
    module = build_context("basic", 1)
    for conv in _convs(module):
        nn.init.ones_(conv.weight)
    features = torch.ones(1, 1, 75, 75, requires_grad=True)
    module(features)[0, 0, 37, 37].backward()
    assert features.grad is not None
    rows, columns = features.grad[0, 0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (37 - 33, 37 + 33, 37 - 33, 37 + 33)


def test_basic_form_begins_as_identity_without_noise() -> None:
    features = torch.rand(2, 3, 9, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(build_context("basic", 3)(features), features)


def test_large_form_begins_close_to_identity() -> None:
    torch.manual_seed(0)
    features = torch.rand(1, 3, 9, 10) + 1
    torch.testing.assert_close(build_context("large", 3)(features), features, rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("num_in", "num_out", "expected"),
    [
        (2, 2, [[1, 0], [0, 1]]),
        (2, 4, [[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]]),
        (4, 2, [[1, 1, 0, 0], [0, 0, 1, 1]]),
        (4, 4, [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]),
    ],
)
def test_equation_5_by_hand(num_in: int, num_out: int, expected: list[list[float]]) -> None:
    torch.manual_seed(0)
    conv = initialise_identity(nn.Conv2d(num_in, num_out, 3), 2)
    centre = conv.weight[:, :, 1, 1].detach()
    belongs = torch.tensor(expected) > 0
    assert torch.equal(centre[belongs], torch.tensor(expected)[belongs])
    rest = conv.weight.detach().clone()
    rest[:, :, 1, 1][belongs] = 0
    assert rest.abs().max() < 0.01
    assert rest.any() == (num_in != 2 or num_out != 2)
    # The last layer's kernel of 1x1 has a centre alone, so the noise must be there too.
    assert rest[:, :, 1, 1][~belongs].any() == (num_in != 2 or num_out != 2)
    assert not conv.bias.any()


def test_copies_of_a_channel_can_become_different() -> None:
    torch.manual_seed(0)
    module = build_context("large", 2)
    module(torch.rand(1, 2, 8, 8)).square().sum().backward()
    first, second = _convs(module)[1].weight.grad[:2]
    assert not math.isclose(first.sum(), second.sum())
