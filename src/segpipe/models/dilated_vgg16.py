"""Dilated VGG16: a front end with scores at 1/8, and a context module that combines neighbouring scores.

Source: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, sections 3 and 4.
Deviations:
- Zeros at the rim of every map instead of a reflected image around it, see `parts/vgg16.py` and `parts/context.py`.
- Front end and context module are trained together from the first step; the paper trains the front end first.
- The front end's scores begin around 1 if a context module follows. The module begins as identity with ReLUs: with
  scores around 0 it would cut off half of them, and a class whose scores are all negative would get no gradient.
- VGG16 may have batch norms (`batch_norm`), which help trainings from random weights.
The option attention adds a block on fc7's map, at 1/8, before the scores.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import Refinement, check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.context import build_context
from segpipe.models.parts.upsampling import crop_to, upsample_bilinear
from segpipe.models.parts.vgg16 import FullyConvolutionalVGG16, check_width_is_published

CARD = Card(
    "segpipe",
    "Yu and Koltun, Multi-scale context aggregation by dilated convolutions, ICLR 2016",
    small={"width": 8, "fc_width": 32},
)

_NUM_POOLINGS = 3
_STRIDE = 2**_NUM_POOLINGS


class DilatedVGG16(nn.Module):
    """VGG16 without its last two poolings, its scores, and the context module on them.

    Args:
        num_classes: channels of the output.
        encoder: the front end without its scores.
        context: form of the context module; `none` for the front end alone.
        attention: name of an attention block, or None.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: FullyConvolutionalVGG16,
        context: Literal["basic", "large", "none"],
        attention: str | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.score = nn.Conv2d(encoder.fc7.out_channels, num_classes, 1)
        self.context: nn.Module = nn.Identity()
        if context != "none":
            self.context = build_context(context, num_classes)
            assert self.score.bias is not None
            nn.init.ones_(self.score.bias)
        # Built after the layers, so that their initial weights are the same with and without attention.
        self.refinement = None if attention is None else Refinement(attention, [encoder.fc7.out_channels])

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W)."""
        deepest = self.encoder(images_NCHW)[-1:]
        (deepest_NCHW,) = deepest if self.refinement is None else self.refinement(deepest)
        scores_NCHW = self.context(self.score(deepest_NCHW))
        return crop_to(upsample_bilinear(scores_NCHW, _STRIDE), images_NCHW)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    context: Literal["basic", "large", "none"] = "basic",
    width: Annotated[int, Field(ge=1)] = 64,
    fc_width: Annotated[int, Field(ge=1)] = 4096,
    batch_norm: bool = False,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    attention: str | None = None,
) -> nn.Module:
    """Builds a `DilatedVGG16`; by default as published, with the basic context module.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with VGG16's weights from ImageNet.
        context: form of the context module. `none` leaves it out; `large` has 15,422 parameters times the square of
            `num_classes`: 1.9 million for 11 classes, 347 million for 150.
        width: channels of VGG16's first stage; 2, 4, 8 and 8 times as many in the others. ImageNet's weights need 64.
        fc_width: channels of fc6 and fc7; with another number than 4096 both always begin with random weights.
        batch_norm: whether VGG16 has batch norms; the paper's has none.
        dropout: share of fc6's and fc7's values that each training step leaves out.
        attention: name of an attention block for single maps, on fc7's.

    Raises:
        ConfigError: `pretrained` with another width than 64, or there is no such attention block or no place for it.
    """
    check_width_is_published(width, pretrained=pretrained)
    check_attention("dilated_vgg16", attention, has_skips=False)
    encoder = FullyConvolutionalVGG16(
        in_channels,
        width=width,
        fc_width=fc_width,
        batch_norm=batch_norm,
        dropout=dropout,
        num_poolings=_NUM_POOLINGS,
    )
    if pretrained:
        encoder.load_imagenet()
    return DilatedVGG16(num_classes, encoder, context, attention)
