"""The processes that share a training, called ranks: each computes a part of every batch, and they add up the results.

All ranks hold the same weights. They take the same step from the sum of their gradients, so the weights stay the same.
Every decision that depends on more than the state (a signal, a clock) is voted on, or the ranks would wait for each
other forever. The first rank writes: checkpoints, metrics, the model.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, seen from one of them. By default it is alone.

    Attributes:
        rank: of this process, from 0.
        number: of processes.
        host: the group for values in the host's memory; None if the process is alone.
    """

    rank: int = 0
    number: int = 1
    host: dist.ProcessGroup | None = None

    @staticmethod
    def join(device: torch.device) -> "Ranks":
        """Meets the other processes that the launcher has started (it sets torch's environment variables).

        Args:
            device: of this process's network.
        """
        is_cuda = device.type == "cuda"
        if is_cuda:
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if is_cuda else "gloo", device_id=device if is_cuda else None)
        host = dist.new_group(backend="gloo")
        assert isinstance(host, dist.ProcessGroup)
        return Ranks(dist.get_rank(), dist.get_world_size(), host)

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def part(self) -> slice:
        """The rank's part of a sequence: every `number`-th item, from its own on."""
        return slice(self.rank, None, self.number)

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gives the sum of a tensor over all ranks, each with the same shape; the tensor itself does not change."""
        if self.number == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def highest(self, vote: int) -> int:
        """Gives the highest vote of all ranks."""
        if self.number == 1:
            return vote
        highest = torch.tensor(vote)
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=self.host)
        return int(highest)

    def gather(self, value: T) -> list[T]:
        """Gives the values of all ranks, in their order."""
        if self.number == 1:
            return [value]
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value, group=self.host)
        return values

    def share(self, value: T) -> T:
        """Gives the first rank's value."""
        return self.gather(value if self.is_first else None)[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Waits until all ranks have come here."""
        if self.number > 1:
            dist.barrier(group=self.host)

    def replicate(self, module: nn.Module) -> nn.Module:
        """Gives the network to call in training: on several ranks one whose backward pass adds up the gradients.

        Args:
            module: the network; gets the weights of the first rank.
        """
        if self.number == 1:
            return module
        # The buffers are equal: batch norms are synchronised, or frozen. To look for unused parameters keeps torch from
        # arranging the gradients anew after the first step: a training that goes on would add in another order.
        replica = DistributedDataParallel(
            module, forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
        )
        replica.register_comm_hook(dist.group.WORLD, _add_up_gradients)
        return replica

    def take_weights_of_first(self, module: nn.Module) -> None:
        """Copies parameters and buffers of the first rank's network to those of the others."""
        if self.number > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def separate_random_numbers(self, seed: int) -> None:
        """Gives each rank but the first random numbers of its own: dropout of the same elements would be no dropout."""
        if not self.is_first:
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))

    def leave(self) -> None:
        """Ends the connection to the others."""
        if self.number > 1:
            dist.destroy_process_group()


ALONE = Ranks()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another rank has ended; gloo has no type for it."""
    texts = ("Connection closed", "Connection reset", "Read error", "Write error", "Broken pipe")
    is_of_gloo = "gloo" in str(error) and any(text in str(error) for text in texts)
    return isinstance(error, dist.DistNetworkError | dist.DistBackendError) or is_of_gloo


def adding_later(replica: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Gives the context of a pass whose gradients stay local until the last pass of the step."""
    if is_last or not isinstance(replica, DistributedDataParallel):
        return nullcontext()
    return replica.no_sync()


def _add_up_gradients(group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Adds; torch's default divides by the number of ranks, but a step's loss is a sum over its parts."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])
