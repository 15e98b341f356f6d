"""Attention blocks by name, for our decoders and the library's: one file a block.

    PLACE: Place                                                          # where in a network the block belongs
    build_block(*, channels) -> nn.Module                                 # "every map" and "deepest map"
    build_block(*, channels, gating_channels) -> nn.Module                # "skip"

A block takes float32 features (N, C, H, W) of any H and W from 1 px up, and gives the same shape; a block on a skip
takes the skip's features and the gating features. Shared code is in `parts/`.

A network requests a block at every place, by the name that the user chose. At the block's own kind of place it gets
the block; elsewhere it gets a module that changes nothing and has no parameters.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from segpipe.choices import Registry
from segpipe.errors import ConfigError

Place = Literal["every map", "deepest map", "skip"]

ATTENTIONS = Registry("attention block", "segpipe.models.parts.attention", "build_block")


def place_of(name: str) -> Place:
    """Says where in a network a block belongs: on every map, on the deepest map alone, or on a skip.

    Raises:
        ConfigError: there is no such block.
    """
    place: Place = ATTENTIONS.module_of(name).PLACE
    return place


def local_block(name: str | None, channels: int) -> nn.Module:
    """Gives a block for any feature map, (N, C, H, W) to the same; the identity for None and blocks of other places.

    Raises:
        ConfigError: there is no block of this name.
    """
    return _block_at("every map", name, channels)


def deepest_block(name: str | None, channels: int) -> nn.Module:
    """Gives a block for the coarsest feature map, with attention between all pixels; otherwise as `local_block`.

    Raises:
        ConfigError: there is no block of this name.
    """
    return _block_at("deepest map", name, channels)


def skip_gate(name: str | None, channels: int, gating_channels: int) -> nn.Module:
    """Gives a gate on a skip connection, `forward(skip_NCHW, gating_NCHW)` to the skip's shape.

    Args:
        name: as the user wrote it; with None, or a block of another place, the skip passes as it is.
        channels: of the skip.
        gating_channels: of the features that gate it, from a coarser level and of any size.

    Raises:
        ConfigError: there is no block of this name.
    """
    if name is None or place_of(name) != "skip":
        return _Open()
    gate: nn.Module = ATTENTIONS.call(name, channels=channels, gating_channels=gating_channels)
    return gate


def check_attention(model: str, name: str | None, *, has_skips: bool) -> None:
    """Refuses a value of a model's option `attention` that names no block, or one that has no place in the model.

    Args:
        model: name of the model, for messages.
        name: as the user wrote it.
        has_skips: whether there is a place between two feature maps.

    Raises:
        ConfigError: there is no block of this name, or it belongs on a skip and the model has none.
    """
    where = f"model {model!r}: option attention: "
    try:
        is_misplaced = name is not None and place_of(name) == "skip" and not has_skips
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from error
    if is_misplaced:
        raise ConfigError(
            f"{where}{name!r} needs two feature maps, and this model's decoder takes a single one; "
            "take a block for single maps, such as 'scse'"
        )


class Refinement(nn.Module):
    """Blocks on an encoder's feature maps, before a decoder takes them that has no place for blocks of its own.

    A block of "every map" stands on each map, one of "deepest map" on the last. One of "skip" gates each map by the
    next deeper one, from the deepest up: a gate sees what the gates below it let through. The deepest is not gated.

    Args:
        name: of the block.
        channels: of each feature map, shallow to deep; 0 for a map to leave alone, as the image itself.

    Raises:
        ConfigError: there is no block of this name.
    """

    def __init__(self, name: str, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = [level for level, num_channels in enumerate(channels) if num_channels]
        assert self.levels, "there is no feature map to refine"
        widths = [channels[level] for level in self.levels]
        self.local_blocks = nn.ModuleList(local_block(name, width) for width in widths)
        self.deepest_block = deepest_block(name, widths[-1])
        self.gates = nn.ModuleList(skip_gate(name, width, gating) for width, gating in pairwise(widths))

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Gives the refined feature maps, (N, C, H, W) each, in the same order and of the same shapes."""
        refined = list(features)
        for level, block in zip(self.levels, self.local_blocks, strict=True):
            refined[level] = block(refined[level])
        refined[self.levels[-1]] = self.deepest_block(refined[self.levels[-1]])
        for position in reversed(range(len(self.gates))):
            level, deeper = self.levels[position : position + 2]
            refined[level] = self.gates[position](refined[level], refined[deeper])
        return refined


class _Open(nn.Module):
    """A gate that is always open."""

    def forward(self, skip_NCHW: torch.Tensor, gating_NCHW: torch.Tensor) -> torch.Tensor:
        return skip_NCHW


def _block_at(place: Place, name: str | None, channels: int) -> nn.Module:
    if name is None or place_of(name) != place:
        return nn.Identity()
    block: nn.Module = ATTENTIONS.call(name, channels=channels)
    return block
