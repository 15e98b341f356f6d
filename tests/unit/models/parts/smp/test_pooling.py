"""Pooling by matrices: against cells worked out one by one, torch's own layer, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.models.parts.smp.pooling import MatrixPool


def pool_slowly(features: np.ndarray[Any, Any], num_cells: int) -> np.ndarray[Any, Any]:
    """Means over rows floor(i * H / n) to ceil((i + 1) * H / n), cell by cell."""
    height, width = features.shape[-2:]
    pooled = np.zeros((*features.shape[:2], num_cells, num_cells))
    for row in range(num_cells):
        for column in range(num_cells):
            top, bottom = row * height // num_cells, int(np.ceil((row + 1) * height / num_cells))
            left, right = column * width // num_cells, int(np.ceil((column + 1) * width / num_cells))
            pooled[..., row, column] = features[..., top:bottom, left:right].mean(axis=(-2, -1))
    return pooled


@pytest.mark.parametrize("num_cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 12), (13, 7)])
def test_pooling_by_matrices_is_adaptive_pooling(num_cells: int, size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    pooled = MatrixPool(num_cells)(features)
    np.testing.assert_allclose(pooled.numpy(), pool_slowly(features.numpy(), num_cells), atol=1e-12)
    torch.testing.assert_close(pooled, nn.AdaptiveAvgPool2d(num_cells)(features))


def test_gradient_of_pooling_by_matrices() -> None:
    features = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MatrixPool(3), features)
