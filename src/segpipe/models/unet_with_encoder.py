"""U-Net's expanding path on an encoder that was made for classification, by segmentation_models.pytorch (smp).

Source: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.
Deviations: the contracting path is the encoder, so the finest skip has half the resolution; up-sampling repeats pixels
instead of a transposed convolution; batch norm. Those of `parts/smp`. The paper's own network is `unet`.
"""

from functools import partial

import segmentation_models_pytorch as smp

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, DecoderChannels, list_strides

CARD = Card(
    "smp",
    "Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015",
    small={"encoder": "test_efficientnet", "decoder_channels": (32, 16, 16, 8, 8)},
)


def describe(
    *,
    decoder_channels: DecoderChannels = (256, 128, 64, 32, 16),
) -> Architecture:
    """Describes the network; the defaults are 24.4 million parameters.

    Args:
        decoder_channels: of the decoder's five levels, from the deepest up.
    """
    network = partial(smp.Unet, decoder_channels=tuple(decoder_channels))
    return Architecture("unet_with_encoder", network, list_strides(range(1, 6)))


build_model = smp_builder(describe, encoder="resnet34")
