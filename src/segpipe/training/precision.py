"""The number format of a training's passes forward and backward; the weights themselves are always float32.

On GPUs since Ampere torch's convolutions round the factors of products to 10 bits of mantissa (TF32) also for
`float32`; with `tf32` matrix products do so too. With `bf16` and `fp16` torch computes convolutions and matrix products
in 16 bits, and keeps in 32 what needs them (`torch.autocast`). fp16 has a small range:
the loss is multiplied by a factor so that small gradients do not become zero, and a step whose gradients overflow is
left out (Micikevicius et al., "Mixed precision training", ICLR 2018, section 3.2).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from segpipe.errors import ConfigError

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The number format of a training.

    Attributes:
        device: of the network.
        dtype: of convolutions and matrix products.
        scaler: of the loss; None except for float16.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    scaler: GradScaler | None = None

    @staticmethod
    def of(name: str, device: torch.device) -> "Precision":
        """Gives the precision of a name in `train.precision`, for a device, and sets how CUDA multiplies matrices.

        Raises:
            ConfigError: the device does not know the format.
        """
        if name == "tf32" and device.type != "cuda":
            raise ConfigError(f"train.precision: tf32 is a format of GPUs, and the device is {device.type}; write auto")
        # torch has TF32 in convolutions already.
        torch.backends.cuda.matmul.fp32_precision = "tf32" if name == "tf32" else "ieee"
        dtype = DTYPES[name]
        return Precision(device, dtype, GradScaler(device.type) if dtype == torch.float16 else None)

    def autocast(self) -> AbstractContextManager[None]:
        """Gives the context of a forward pass."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradients of a loss, multiplied by the scaler's factor."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: Optimizer, module: nn.Module, max_gradient_norm: float | None) -> bool:
        """Takes the optimiser's step with the added gradients.

        Args:
            optimizer: of the module's parameters.
            module: the network.
            max_gradient_norm: clips the norm of the gradients; None for no limit.

        Returns:
            Whether the weights changed: False if gradients overflowed and the factor was lowered instead.
        """
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)  # the limit is of the true gradients
        if max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), max_gradient_norm)
        if self.scaler is None:
            optimizer.step()
            return True
        factor = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= factor
