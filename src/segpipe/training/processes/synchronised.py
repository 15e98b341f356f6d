"""Batch norm over the images of all ranks, so that a batch is normalised the same for any number of processes."""

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

from segpipe.errors import ConfigError


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Makes the batch norms of a network use the statistics of all ranks; names and parameters stay.

    On CUDA they become torch's own `SyncBatchNorm`, which refuses other devices; elsewhere ours.

    Args:
        module: the network; may be changed in place.
        device: of the network.

    Raises:
        ConfigError: a batch norm is of an unknown kind.
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)}
    for name, layer in layers.items():
        if type(layer) not in _SYNCHRONISED:
            raise ConfigError(f"{name} is a {type(layer).__name__}, which cannot be shared by several processes")
    if device.type == "cuda":
        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    for layer in layers.values():
        layer.__class__ = _SYNCHRONISED[type(layer)]  # the layer with its parameters, hooks and name
    return module


class _SumOfRanks(Function):
    """The sum of a tensor over all ranks; the gradient of each part is the sum of the gradients."""

    @staticmethod
    def forward(ctx: object, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _normalise(layer: _BatchNorm, features: torch.Tensor) -> torch.Tensor:
    """Gives features (N, C, ...) minus the mean over all ranks' values of a channel, by their standard deviation.

    Ioffe and Szegedy, "Batch normalization", ICML 2015, algorithm 1. The ranks may have different numbers of values.
    Computed in float32.
    """
    values = features.float()
    others = [dim for dim in range(values.ndim) if dim != 1]
    shape = [1, -1, *[1] * (values.ndim - 2)]
    num_here = values.new_full((1,), values.numel() / values.shape[1])
    sums = _SumOfRanks.apply(torch.cat([values.sum(others), num_here]))
    number, mean_C = sums[-1].detach(), sums[:-1] / sums[-1].detach()
    centred = values - mean_C.view(shape)
    # From centred values: the difference of the mean square and the squared mean loses the digits of a small variance.
    variance_C = _SumOfRanks.apply(centred.square().sum(others)) / number
    _remember(layer, mean_C.detach(), variance_C.detach() * number / (number - 1).clamp(min=1))
    scale_C = (variance_C + layer.eps).rsqrt()
    if layer.affine:
        scale_C = scale_C * layer.weight
    normalised: torch.Tensor = centred * scale_C.view(shape)
    if layer.affine:
        normalised = normalised + layer.bias.view(shape)
    return normalised.to(features.dtype)


@torch.no_grad()
def _remember(layer: _BatchNorm, mean_C: torch.Tensor, variance_C: torch.Tensor) -> None:
    """Updates the running statistics as torch does."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked += 1
    share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean_C.to(layer.running_mean), share)
    layer.running_var.lerp_(variance_C.to(layer.running_var), share)


class _OfAllRanks(_BatchNorm):
    """The forward pass of a batch norm in training mode; in evaluation mode it is the layer's own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _normalise(self, input) if self.training else super().forward(input)


class _BatchNorm1dOfAllRanks(_OfAllRanks, nn.BatchNorm1d):
    pass


class _BatchNorm2dOfAllRanks(_OfAllRanks, nn.BatchNorm2d):
    pass


class _BatchNormAct2dOfAllRanks(BatchNormAct2d):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.act(self.drop(_normalise(self, x))) if self.training else super().forward(x)
        return output


_SYNCHRONISED: dict[type[nn.Module], type[_BatchNorm]] = {
    nn.BatchNorm1d: _BatchNorm1dOfAllRanks,
    nn.BatchNorm2d: _BatchNorm2dOfAllRanks,
    BatchNormAct2d: _BatchNormAct2dOfAllRanks,
}
