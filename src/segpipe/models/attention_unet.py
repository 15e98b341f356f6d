"""Attention U-Net: each pixel of a skip is weighted by a gate, which reads the next coarser level of the decoder.

Source: Oktay et al., "Attention U-Net: learning where to look for the pancreas", MIDL 2018, and the authors' code.
The gates (section 2, equations 1 and 2) are in `parts/attention/gate.py`; the gating signal is the decoder's map before
its up-sampling. As in the paper the skip of level 0 is not gated: its features do not represent objects yet.
Deviations: two dimensions, where the paper's volumes have three. A 3x3 convolution after up-sampling brings the
channels to those of the skip before both are joined, as in U-Net; the authors' code joins first. No 1x1 convolution
makes a gating signal of the deepest map. With deep supervision (`deep_supervision: true`) each level has a loss of its
own, as in Lee et al., AISTATS 2015; the authors' code joins all levels' logits by a last 1x1 convolution instead.
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.unet import UNet, UpSampling

CARD = Card(
    "segpipe",
    "Oktay et al., Attention U-Net: learning where to look for the pancreas, MIDL 2018",
    small={"width": 4, "depth": 3},
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    width: Annotated[int, Field(ge=1)] = 64,
    depth: Annotated[int, Field(ge=2, le=6)] = 4,
    up_sampling: UpSampling = "bilinear",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds a `UNet` with gates on its skips; the defaults have 35.6 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        width: channels at full resolution; each halving doubles them.
        depth: number of halvings; with one alone there would be no gate.
        up_sampling: `bilinear` or `nearest` resizing and a convolution, or a `transposed` convolution.
        dropout: probability, on the two last levels of the contracting path.
        deep_supervision: whether the coarser levels of the decoder give logits in training too.
    """
    return UNet(
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        depth=depth,
        up_sampling=up_sampling,
        dropout=dropout,
        attention="gate",
        gates_level_0=False,
        deep_supervision=deep_supervision,
    )
