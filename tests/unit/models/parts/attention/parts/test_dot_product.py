"""Dot-product attention by hand, and the same each time."""

from __future__ import annotations

import math

import pytest
import torch

from segpipe.models.parts.attention.parts.dot_product import attend


def test_by_hand() -> None:
    # Energies ln 3 and 0 after the scale: weights 3/4 and 1/4.
    query, key = torch.tensor([[[2.0]]]), torch.tensor([[[math.log(3)], [0.0]]])
    value = torch.tensor([[[4.0, 0.0], [0.0, 8.0]]])
    torch.testing.assert_close(attend(query, key, value, scale=0.5), torch.tensor([[[3.0, 2.0]]]))


def test_the_scale_is_that_of_the_length_by_default() -> None:
    query, key, value = (torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    torch.testing.assert_close(attend(query, key, value), attend(query, key, value, scale=0.5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels in question are CUDA's")
def test_gradients_are_the_same_each_time_on_a_gpu() -> None:
    def gradients() -> list[torch.Tensor]:
        generator = torch.Generator("cuda").manual_seed(0)
        tensors = [torch.randn(2, 4096, 64, device="cuda", generator=generator).requires_grad_() for _ in range(3)]
        attend(*tensors).square().sum().backward()
        return [tensor.grad for tensor in tensors if tensor.grad is not None]

    first = gradients()
    assert all(torch.equal(a, b) for _ in range(5) for a, b in zip(first, gradients(), strict=True))
