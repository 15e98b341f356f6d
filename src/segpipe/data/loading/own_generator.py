"""Random numbers of a library that draws from torch's one generator, drawn from a generator of one's own.

Torch's generator is shared by all threads. A loading thread that set its seed would disturb the other threads and the
training, whose dropout draws from it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

TAKE_A_GENERATOR: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        torch.normal,
        torch.bernoulli,
        torch.multinomial,
        torch._sample_dirichlet,
        torch.Tensor.uniform_,
        torch.Tensor.normal_,
        torch.Tensor.random_,
        torch.Tensor.bernoulli_,
        torch.Tensor.exponential_,
    }
)


class OwnGenerator(TorchFunctionMode):
    """In its context, this thread's draws come from a generator with a seed; other threads are not concerned.

    Args:
        seed: of the generator, on the CPU.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch, with the generator where it draws."""
        kwargs = dict(kwargs or {})
        if func is torch.randn_like:  # it takes no generator
            return torch.randn(args[0].shape, dtype=args[0].dtype, generator=self._generator)
        if func in TAKE_A_GENERATOR and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)
