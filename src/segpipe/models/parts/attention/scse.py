"""Concurrent spatial and channel squeeze and excitation (scSE): the sum of weighted channels and weighted pixels.

Source: Roy, Navab, Wachinger, "Concurrent spatial and channel squeeze & excitation in fully convolutional networks",
MICCAI 2018, section 2, computed by segmentation_models.pytorch: U_scSE = U_cSE + U_sSE; reduction 2 in cSE.
Deviations: the layers have biases; fewer than 16 channels are not reduced, because few can all be dead from the start.
"""

from segmentation_models_pytorch.base.modules import SCSEModule
from torch import nn

from segpipe.models.parts.attention import Place

PLACE: Place = "every map"


def build_block(*, channels: int) -> nn.Module:
    """Builds the block for features (N, channels, H, W)."""
    return SCSEModule(channels, reduction=2 if channels >= 16 else 1)
