"""U-Net++, whose skips are dense networks of their own, by segmentation_models.pytorch (smp).

Source: Zhou et al., "UNet++: a nested U-Net architecture for medical image segmentation", DLMIA 2018, figure 1 a.
Deviations: an encoder made for classification in place of the paper's; no deep supervision; up-sampling repeats pixels;
batch norm. Those of `parts/smp`.
"""

from functools import partial

import segmentation_models_pytorch as smp

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, DecoderChannels, list_strides

CARD = Card(
    "smp",
    "Zhou et al., UNet++: a nested U-Net architecture for medical image segmentation, DLMIA 2018",
    small={"encoder": "test_efficientnet", "decoder_channels": (16, 16, 8, 8, 8)},
)


def describe(
    *,
    decoder_channels: DecoderChannels = (256, 128, 64, 32, 16),
) -> Architecture:
    """Describes the network; the defaults are 26.1 million parameters.

    Args:
        decoder_channels: of the decoder's five levels, from the deepest up.
    """
    network = partial(smp.UnetPlusPlus, decoder_channels=tuple(decoder_channels))
    return Architecture("unetplusplus", network, list_strides(range(1, 6)))


build_model = smp_builder(describe, encoder="resnet34")
