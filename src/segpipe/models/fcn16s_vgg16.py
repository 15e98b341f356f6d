"""FCN-16s on VGG16: the scores at 1/32 and those of pool4, enlarged together from 1/16.

Source: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 4.2.
Deviations: those of `parts/fcn.py` and `parts/vgg16.py`, among them: fc6 pads instead of a widened image, and all
strides are trained at once.
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.fcn import build_fcn

CARD = Card(
    "segpipe",
    "Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015",
    published=(21, 134e6),
    small={"width": 8, "fc_width": 32},
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    pool4_scale: Annotated[float, Field(gt=0)] = 1.0,
    width: Annotated[int, Field(ge=1)] = 64,
    fc_width: Annotated[int, Field(ge=1)] = 4096,
    batch_norm: bool = False,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    learn_last_upsampling: bool = False,
    attention: str | None = None,
) -> nn.Module:
    """Builds the network; by default as published.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with VGG16's weights from ImageNet.
        pool4_scale: factor of the features that the scores of pool4 see.
        width: channels of VGG16's first stage; 2, 4, 8 and 8 times as many in the others. ImageNet's weights need 64.
        fc_width: channels of fc6 and fc7; with another number than 4096 the two begin random in any case.
        batch_norm: whether VGG16 has batch norms; the paper's has none.
        dropout: share of fc6's and fc7's values that each training step leaves out.
        learn_last_upsampling: whether the last enlargement, bilinear in the paper, is learned from there on.
        attention: name of an attention block, on the maps that are scored.

    Raises:
        ConfigError: `pretrained` with another width than 64, or there is no such attention block.
    """
    check_attention("fcn16s_vgg16", attention, has_skips=True)
    return build_fcn(
        num_classes,
        in_channels,
        (pool4_scale,),
        pretrained=pretrained,
        width=width,
        fc_width=fc_width,
        batch_norm=batch_norm,
        dropout=dropout,
        learn_last_upsampling=learn_last_upsampling,
        attention=attention,
    )
