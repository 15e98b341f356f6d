"""Adaptive pooling with deterministic gradients on CUDA."""

import torch
from torch import nn


class MatrixPool(nn.Module):
    """Adaptive average pooling to a fixed number of cells, as two matrix products.

    Gives what `nn.AdaptiveAvgPool2d` gives, whose gradients on CUDA are summed up in an order that changes from run to
    run. Cell i of n takes the rows from floor(i * H / n) to ceil((i + 1) * H / n).

    Args:
        num_cells: rows and columns of the output.
    """

    def __init__(self, num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives (N, C, num_cells, num_cells) for features (N, C, H, W)."""
        height, width = features_NCHW.shape[-2:]
        return self._average(height, features_NCHW) @ features_NCHW @ self._average(width, features_NCHW).T

    def _average(self, length: int, like: torch.Tensor) -> torch.Tensor:
        cell = torch.arange(self.num_cells, device=like.device)[:, None]
        position = torch.arange(length, device=like.device)[None]
        # Rounded up by a sum: ONNX rounds quotients of negative numbers towards zero.
        begin = cell * length // self.num_cells
        end = ((cell + 1) * length + self.num_cells - 1) // self.num_cells
        return ((position >= begin) & (position < end)).to(like.dtype) / (end - begin).to(like.dtype)


def make_poolings_deterministic(decoder: nn.Module) -> None:
    """Replaces each adaptive average pooling to more than one cell by a `MatrixPool`."""
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            num_cells = size[0] if isinstance(size, tuple) else size
            # To one cell torch takes the mean, whose gradient is the same each time.
            if num_cells != 1:
                assert num_cells is not None and size in (num_cells, (num_cells, num_cells))
                decoder.set_submodule(name, MatrixPool(num_cells))
