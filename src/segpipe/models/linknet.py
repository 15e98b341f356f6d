"""LinkNet, which adds an encoder's maps to the decoder's instead of joining them, by segmentation_models.pytorch (smp).

Source: Chaurasia and Culurciello, "LinkNet: exploiting encoder representations for efficient semantic segmentation",
VCIP 2017.
Deviations: five decoder blocks, the last without a skip, and one 1x1 convolution for the logits, in place of four
blocks and two transposed convolutions; kernels of 4 in transposed convolutions, which a stride of 2 divides; any
encoder, the paper's is resnet18. Those of `parts/smp`.
"""

import segmentation_models_pytorch as smp

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture, list_strides

CARD = Card(
    "smp",
    "Chaurasia et al., LinkNet: exploiting encoder representations for efficient semantic segmentation, VCIP 2017",
    small={"encoder": "test_efficientnet"},
)


def describe() -> Architecture:
    """Describes the network; the defaults are 21.8 million parameters."""
    return Architecture("linknet", smp.Linknet, list_strides(range(1, 6)))


build_model = smp_builder(describe, encoder="resnet34")
