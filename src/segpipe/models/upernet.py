"""UPerNet, pyramid pooling on the deepest map and a feature pyramid above it, by segmentation_models.pytorch (smp).

Source: Xiao et al., "Unified perceptual parsing for scene understanding", ECCV 2018, figure 4, the part for objects;
the auxiliary head is that of Zhao et al., "Pyramid scene parsing network", CVPR 2017, as is custom for this network.
Deviations: a layer norm on each of the encoder's maps, which transformers as encoders need. Those of `parts/smp`.
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
    "Xiao et al., Unified perceptual parsing for scene understanding, ECCV 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": 16},
    earlier={"align_corners": True},
)


def describe(
    *,
    decoder_channels: Annotated[int, Field(ge=1)] = 256,
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 39.6 million parameters, 2.4 of them the auxiliary head's.

    Args:
        decoder_channels: of the pyramid.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(smp.UPerNet, decoder_channels=decoder_channels)
    return Architecture("upernet", network, list_strides(range(2, 6)), align_corners=align_corners)


build_model = smp_builder(describe, encoder="resnet50", auxiliary=True)
