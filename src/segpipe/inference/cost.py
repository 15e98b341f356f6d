"""The size of a model and its operations, counted on torch's meta device, whose tensors have shapes but no content."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from segpipe.inference.network import build_network

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """A model's size and its operations.

    Attributes:
        num_parameters: number of parameters, auxiliary heads included.
        num_flops: operations for one image in evaluation; a multiply-add counts as two.
    """

    num_parameters: int
    num_flops: int


def count_cost(
    name: str, options: Mapping[str, Any], num_classes: int, size: tuple[int, int], in_channels: int = 3
) -> Cost:
    """Counts a model's parameters and floating-point operations.

    Convolutions, matrix products and attention are counted, as torch does; sums, activations and resizing are not.

    Args:
        name: the model's name.
        options: the model's options.
        num_classes: channels of the logits.
        size: height and width of the image, pixels.
        in_channels: as in `build_network`.

    Raises:
        ConfigError: unknown name or option.
    """
    # It warns where triton, whose kernels no network here has, is not installed.
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    from torch.utils.flop_counter import FlopCounterMode  # takes a second, which `without_content` does not need

    def count() -> Cost:
        network = build_network(name, options, num_classes, in_channels).eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.empty(1, 3, *size))
        return Cost(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops())

    return without_content(count)


def without_content(work: Callable[[], T]) -> T:
    """Does work on the meta device, or normally if a library's constructor needs the numbers in tensors.

    An error that does not come from the meta device is raised by the second try.
    """
    try:
        with torch.device("meta"):
            return work()
    except RuntimeError:  # such as "Tensor.item() cannot be called on meta tensors"
        return work()
