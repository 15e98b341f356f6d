"""SegFormer, a transformer of four resolutions whose maps meet in linear layers, by segmentation_models.pytorch (smp).

Source: Xie et al., "SegFormer: simple and efficient design for semantic segmentation with transformers", NeurIPS 2021,
figure 2; the encoder mit_b2 and its decoder of 768 channels are SegFormer-B2 (the decoder of B0 and B1 has 256).
Deviations: no dropout before the logits. Those of `parts/smp`.
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
    "Xie et al., SegFormer: simple and efficient design for semantic segmentation with transformers, NeurIPS 2021",
    published=(150, 27.5e6),
    small={"encoder": "mit_b0", "decoder_channels": 16},
    earlier={"align_corners": True},
)


def describe(
    *,
    decoder_channels: Annotated[int, Field(ge=1)] = 768,
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 27.4 million parameters.

    Args:
        decoder_channels: to which every map is brought.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(smp.Segformer, decoder_segmentation_channels=decoder_channels)
    return Architecture("segformer", network, list_strides(range(1, 6)), align_corners=align_corners)


build_model = smp_builder(describe, encoder="mit_b2")
