"""FC-DenseNet, the "one hundred layers Tiramisu", of which three sizes are published.

Source: Jegou, Drozdzal, Vazquez, Romero, Bengio, "The one hundred layers Tiramisu: fully convolutional DenseNets for
semantic segmentation", CVPRW 2017, figures 1 and 2, tables 1 and 2, section 3. Two details are from the authors' code:
if an up-sampled map is larger than the skip, its first rows and columns are kept; the input of the last convolution is
the skip, the up-sampled and the new features.
Deviations: the transposed convolutions have no bias, because the next batch norm removes it, or the bias of the last
convolution replaces it. Evaluation uses the running statistics of batch norm; the authors' code uses those of the test
batch. Batch norm's epsilon is torch's 1e-5 (the authors' library: 1e-4).
Memory: features are concatenated only where they are read, so that a block holds each of them once. In a
training the concatenation, its batch norm and ReLU are computed again for the backward pass, as in Pleiss et al.,
"Memory-efficient implementation of DenseNets", arXiv:1707.06990.
The option attention adds a block on the new features of the bottom's dense block, or of each block on the way up; or
each skip as a whole is gated by the new features of the block below. Such a map is concatenated, and held once more.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import check_attention, deepest_block, local_block, place_of, skip_gate
from segpipe.models.parts.checkpointing import run_checkpointed
from segpipe.models.parts.options import Build

PAPER = (
    "Jegou et al., The one hundred layers Tiramisu: fully convolutional DenseNets for semantic segmentation, CVPRW 2017"
)
SMALL = {"growth": 4, "first_width": 8}


class _Concatenated(nn.Sequential):
    """Layers one after the other, on the concatenation of all that is given."""

    def forward(self, *features_NCHW: torch.Tensor) -> torch.Tensor:
        output_NCHW: torch.Tensor = super().forward(torch.cat(features_NCHW, dim=1))
        return output_NCHW


class _GatedSkip(nn.Module):
    """A gate on the concatenation of a skip's maps, by the concatenation of the gating maps."""

    def __init__(self, gate: nn.Module, num_skip_maps: int) -> None:
        super().__init__()
        self.gate, self.num_skip_maps = gate, num_skip_maps

    def forward(self, *features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives the gated skip as one map, for its maps and behind them the gating ones."""
        skip, gating = features_NCHW[: self.num_skip_maps], features_NCHW[self.num_skip_maps :]
        output_NCHW: torch.Tensor = self.gate(torch.cat(skip, dim=1), torch.cat(gating, dim=1))
        return output_NCHW


def _build_layer(in_channels: int, growth: int) -> _Concatenated:
    """Gives a layer (table 1, left) up to its dropout, behind which the convolution would be computed twice."""
    return _Concatenated(
        nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), nn.Conv2d(in_channels, growth, 3, padding=1)
    )


def _build_block(in_channels: int, growth: int, num_layers: int) -> nn.ModuleList:
    return nn.ModuleList(_build_layer(in_channels + i * growth, growth) for i in range(num_layers))


def _build_transition_down(channels: int, dropout: float) -> _Concatenated:
    """Gives a transition down (table 1, middle), with a dropout of its own: it is computed twice as a whole."""
    return _Concatenated(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1),
        nn.Dropout(dropout),
        nn.MaxPool2d(2),
    )


def _build_transition_up(channels: int) -> _Concatenated:
    return _Concatenated(nn.ConvTranspose2d(channels, channels, 3, stride=2, bias=False))


class FCDenseNet(nn.Module):
    """Dense blocks on the way down, one at the bottom, dense blocks on the way up; logits at the images' resolution.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        nums_layers: layers of each block on the way down, from the images' resolution on, then of the bottom's block.
            The way up has those of the way down.
        growth: channels that each layer adds.
        first_width: channels of the first convolution.
        dropout: probability with which each value that a layer or a transition down gives is dropped in training.
        checkpointing: whether a training computes parts of its forward pass again to save memory.
        attention: name of an attention block, or None.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        nums_layers: Sequence[int],
        *,
        growth: int,
        first_width: int,
        dropout: float,
        checkpointing: bool,
        attention: str | None = None,
    ) -> None:
        super().__init__()
        *nums_layers_down, num_layers_bottom = nums_layers
        self.checkpointing = checkpointing
        self.first = nn.Conv2d(in_channels, first_width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.blocks_down, self.transitions_down = nn.ModuleList(), nn.ModuleList()
        channels, skip_widths = first_width, []
        for num_layers in nums_layers_down:
            self.blocks_down.append(_build_block(channels, growth, num_layers))
            channels += num_layers * growth
            skip_widths.append(channels)
            self.transitions_down.append(_build_transition_down(channels, dropout))
        self.bottom = _build_block(channels, growth, num_layers_bottom)
        self.transitions_up, self.blocks_up = nn.ModuleList(), nn.ModuleList()
        new_channels = num_layers_bottom * growth
        for num_layers, skip_width in zip(reversed(nums_layers_down), reversed(skip_widths), strict=True):
            self.transitions_up.append(_build_transition_up(new_channels))
            channels = skip_width + new_channels
            self.blocks_up.append(_build_block(channels, growth, num_layers))
            new_channels = num_layers * growth
        self.head = _Concatenated(nn.Conv2d(channels + new_channels, num_classes, 1))
        _draw_weights(self)
        # After the drawing: blocks begin in their own way, and the layers with the same weights as without blocks.
        self._add_attention(attention, nums_layers, skip_widths, growth)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W), H and W from 32 px up."""
        features, skips = [self.first(images_NCHW)], []
        for block, transition in zip(self.blocks_down, self.transitions_down, strict=True):
            features += self._grow(block, features)
            skips.append(features)
            features = [self._run(transition, features)]
        return self._run(self.head, self._expand(features, skips))

    def _add_attention(
        self, attention: str | None, nums_layers: Sequence[int], skip_widths: Sequence[int], growth: int
    ) -> None:
        self.place = None if attention is None else place_of(attention)
        # From the bottom up: the channels that each block adds.
        new_widths = [num_layers * growth for num_layers in reversed(nums_layers)]
        self.deepest = _Concatenated(deepest_block(attention, new_widths[0]))
        self.refine = nn.ModuleList(_Concatenated(local_block(attention, width)) for width in new_widths[1:])
        # A skip holds what came into its block, and a map of each layer.
        skips = zip(reversed(skip_widths), reversed(nums_layers[:-1]), new_widths[:-1], strict=True)
        self.gate = nn.ModuleList(
            _GatedSkip(skip_gate(attention, skip_width, gating_width), 1 + num_layers)
            for skip_width, num_layers, gating_width in skips
        )

    def _expand(self, features: list[torch.Tensor], skips: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        """Runs the bottom and the way up, and gives what the head reads, all at the images' resolution."""
        new_features = self._grow(self.bottom, features)
        if self.place == "deepest map":
            new_features = [self._run(self.deepest, new_features)]
        levels = zip(self.gate, self.transitions_up, self.blocks_up, self.refine, reversed(skips), strict=True)
        for gate, transition, block, refine, skip in levels:
            height_px, width_px = skip[0].shape[-2:]
            # Concatenated and held once more only where a block asks for it.
            across = [self._run(gate, [*skip, *new_features])] if self.place == "skip" else skip
            features = [self._run(transition, new_features)[..., :height_px, :width_px], *across]
            new_features = self._grow(block, features)
            if self.place == "every map":
                new_features = [self._run(refine, new_features)]
        return [*features, *new_features]

    def _grow(self, block: nn.Module, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Gives what each layer of a block adds to the features that go into the block."""
        new_features: list[torch.Tensor] = []
        for layer in block.children():
            new_features.append(self.dropout(self._run(layer, [*features, *new_features])))
        return new_features

    def _run(self, module: nn.Module, features: list[torch.Tensor]) -> torch.Tensor:
        output_NCHW: torch.Tensor = run_checkpointed(module, *features) if self.checkpointing else module(*features)
        return output_NCHW


def fc_densenet_builder(name: str, nums_layers: Sequence[int], *, growth: int) -> Build:
    """Gives the `build_model` of one size.

    Args:
        name: of the model, for messages.
        nums_layers: layers of each block on the way down, then of the bottom's block.
        growth: default of the option.
    """
    default_growth = growth

    def build_model(
        *,
        num_classes: int,
        in_channels: int,
        growth: Annotated[int, Field(ge=1)] = default_growth,
        first_width: Annotated[int, Field(ge=1)] = 48,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        checkpointing: bool = True,
        attention: str | None = None,
    ) -> nn.Module:
        """Builds an `FCDenseNet`.

        Args:
            num_classes: channels of the output.
            in_channels: channels of the images.
            growth: channels that each layer adds.
            first_width: channels of the first convolution.
            dropout: probability with which a value is dropped in training.
            checkpointing: whether a training computes parts of its forward pass again, to take less memory. The weights
                that it gives are the same.
            attention: name of an attention block, at the places where it belongs.

        Raises:
            ConfigError: there is no such attention block.
        """
        check_attention(name, attention, has_skips=True)
        return FCDenseNet(
            num_classes,
            in_channels,
            nums_layers,
            growth=growth,
            first_width=first_width,
            dropout=dropout,
            checkpointing=checkpointing,
            attention=attention,
        )

    return build_model


def _draw_weights(module: nn.Module) -> None:
    """Draws uniform weights by He et al., "Delving deep into rectifiers", ICCV 2015, equation 10; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
