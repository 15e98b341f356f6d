"""The description of a network of smp in a model's file: how to build it, which encoders fit, which images it takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import nn

PYRAMID_ENCODERS = (
    "an encoder with maps at strides of 4, 8, 16 and 32 px, such as resnet34, efficientnet-b0, convnext_tiny, "
    "pvt_v2_b2 or swin_tiny_patch4_window7_224"
)
DILATED_ENCODERS = (
    "an encoder that can keep its resolution by dilation, such as resnet50, mobilenet_v2, xception65 or convnext_tiny"
)

# Five widths of a decoder, from the deepest level up.
DecoderChannels = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=5, max_length=5)]


@dataclass(frozen=True)
class Architecture:
    """A network of smp, with its requirements for encoder and images.

    Attributes:
        name: of the model, for messages.
        build: builds smp's network; a class of smp's, or what calls one. Gets the names of smp's arguments.
        strides_px: by its number, the stride of each feature map that the decoder takes; one such table for each
            family of encoders that fits. Map 0 of all encoders but ViTs is the image itself.
        fitting: which encoders fit, for messages.
        multiple_px: of which the height and the width of images must be a multiple; smaller ones are padded.
        min_side_px: height and width that images must have at least.
        ways: keyword arguments for timm's encoders, to be tried in this order. Some need to be told that images are not
            always of the size that their weights were trained with.
        is_timm_only: whether the encoders of smp's own list are excluded.
        align_corners: whether bilinear resizing keeps the corners of maps in place, as smp does, or the centres of
            cells (see `resizing`). Networks that resize by nearest neighbours or by convolutions alone have no choice.
    """

    name: str
    build: Callable[..., nn.Module]
    strides_px: tuple[Mapping[int, int], ...]
    fitting: str = PYRAMID_ENCODERS
    multiple_px: int = 32
    min_side_px: int = 32
    ways: tuple[Mapping[str, Any], ...] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})
    is_timm_only: bool = False
    align_corners: bool = False

    @property
    def levels(self) -> tuple[int, ...]:
        """The numbers of the feature maps that the decoder takes."""
        return tuple(self.strides_px[0])


def list_strides(levels: Sequence[int], output_stride: int = 32) -> tuple[Mapping[int, int]]:
    """Gives the strides of an encoder's maps: they halve the resolution in turn, down to `output_stride` px."""
    return ({level: min(2**level, output_stride) for level in levels},)


def name_fitting_encoders(output_stride: int) -> str:
    """Says which encoders fit a network whose deepest map has a stride of `output_stride` px, 32 at most."""
    return PYRAMID_ENCODERS if output_stride == 32 else f"{DILATED_ENCODERS}; at output_stride 32 {PYRAMID_ENCODERS}"
