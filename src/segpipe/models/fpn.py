"""Semantic FPN: a feature pyramid whose levels are brought to 1/4 and added, by segmentation_models.pytorch (smp).

Source: Kirillov et al., "Panoptic feature pyramid networks", CVPR 2019, section 3.1 and figure 3; the pyramid of Lin et
al., "Feature pyramid networks for object detection", CVPR 2017.
Deviations: no 3x3 convolution on the pyramid's levels before the branches; dropout before the logits. Those of
`parts/smp`.
"""

from functools import partial
from typing import Annotated

import segmentation_models_pytorch as smp
from pydantic import Field

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, list_strides

CARD = Card(
    "smp",
    "Kirillov et al., Panoptic feature pyramid networks, CVPR 2019",
    small={"encoder": "test_efficientnet", "pyramid_channels": 32, "segmentation_channels": 32},
    earlier={"align_corners": True},
)


def describe(
    *,
    pyramid_channels: Annotated[int, Field(ge=1)] = 256,
    segmentation_channels: Annotated[int, Field(ge=32, multiple_of=32)] = 128,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 23.2 million parameters.

    Args:
        pyramid_channels: of the pyramid.
        segmentation_channels: of the branches from its levels to 1/4; 32 groups are normalised.
        dropout: probability for a channel, before the logits.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(
        smp.FPN,
        decoder_pyramid_channels=pyramid_channels,
        decoder_segmentation_channels=segmentation_channels,
        decoder_dropout=dropout,
    )
    return Architecture("fpn", network, list_strides(range(2, 6)), align_corners=align_corners)


build_model = smp_builder(describe, encoder="resnet34")
