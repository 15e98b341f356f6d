"""What the slow references of the attention blocks are made of: loops in float64, one sample (C, H, W) each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn


def make_features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module) -> nn.Module:
    """Gives the module in float64 and evaluation mode with random parameters and statistics, none of them 0 or 1."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, dtype=torch.float64, generator=generator) * 0.7
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_var is not None
            layer.running_var.abs_().add_(0.5)
    return module


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(energies: list[float]) -> list[float]:
    exponentials = [np.exp(energy - max(energies)) for energy in energies]
    return [exponential / sum(exponentials) for exponential in exponentials]


def multiply(layer: nn.Conv2d, vector: np.ndarray) -> np.ndarray:
    """Gives what a 1x1 convolution makes of the channels of one pixel."""
    weight = layer.weight.detach().numpy()[:, :, 0, 0]
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()
    return np.array([sum(w * v for w, v in zip(row, vector, strict=True)) for row in weight]) + bias


def multiply_pixels(layer: nn.Conv2d, features_CHW: np.ndarray) -> np.ndarray:
    """Gives what a 1x1 convolution makes of every pixel."""
    height, width = features_CHW.shape[1:]
    result = np.empty((layer.out_channels, height, width))
    for y, x in np.ndindex(height, width):
        result[:, y, x] = multiply(layer, features_CHW[:, y, x])
    return result


def normalise(layer: nn.BatchNorm2d, features_CHW: np.ndarray) -> np.ndarray:
    """Gives what batch norm in evaluation mode makes of the features."""
    values = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
    weight, bias, mean, variance = (value.detach().numpy() for value in values if value is not None)
    result = np.empty_like(features_CHW)
    for c in range(len(result)):
        result[c] = (features_CHW[c] - mean[c]) / np.sqrt(variance[c] + layer.eps) * weight[c] + bias[c]
    return result


def assert_equals_reference(module: nn.Module, reference: Callable[..., np.ndarray], *features: torch.Tensor) -> None:
    """Compares each sample of the module's output with the reference's."""
    output = module(*features).detach().numpy()
    for n in range(len(output)):
        np.testing.assert_allclose(output[n], reference(*(x[n].numpy() for x in features)), rtol=1e-10, atol=1e-12)
