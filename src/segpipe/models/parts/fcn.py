"""FCN-32s, FCN-16s and FCN-8s: VGG16, class scores at one to three strides, and their sum at image size.

Source: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, sections 4.1
and 4.2, figure 3; the scales of skips are those of "at once" training in the TPAMI 2017 version's code.
Deviations:
- fc6 pads by 3 and the image is not padded by 100, see `FullyConvolutionalVGG16`. So no map is shifted: maps are cut
  only at the right and below.
- All strides are trained together. The paper trains 32s, goes on with 16s, then with 8s. Its later version trains them
  together with pool4 times 0.01 and pool3 times 0.0001, which fits features of Caffe's VGG16 for images of 0 to 255;
  ours are normalised to about 1, so the scales are 1 here, and options.
- The deepest score layer begins random; the paper's begins at zero, which gives the encoder no gradient in the first
  step. The scores of the skips begin at zero as in the paper.
- The last up-sampling, fixed in the paper, can be learned (`learn_last_upsampling`).
- VGG16 may have batch norms (`batch_norm`), which help trainings from random weights. More: `parts/vgg16.py`.
The option attention adds blocks on the scored maps: fc7's, for 16s pool4's too, for 8s pool3's as well. With a block on
a pooled map, its scores begin random: scores that begin at zero give the block no gradient in the first step.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from segpipe.models.parts.attention import Refinement, check_attention, place_of
from segpipe.models.parts.options import Build, with_options_of
from segpipe.models.parts.upsampling import bilinear_transposed_conv, crop_to, upsample_bilinear
from segpipe.models.parts.vgg16 import FullyConvolutionalVGG16, check_width_is_published, list_stage_widths

PAPER = "Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015"
SMALL = {"width": 8, "fc_width": 32}

Scale = Annotated[float, Field(gt=0)]

_DEEPEST_STRIDE_LOG2 = 5


class FCN(nn.Module):
    """VGG16 with scores from its deepest map, and from as many shallower ones as there are scales.

    Args:
        num_classes: channels of the output.
        in_channels: channels of the images.
        skip_scales: for 16s the scale of pool4, for 8s those of pool4 and pool3; empty for 32s.
        width: channels of VGG16's first stage.
        fc_width: channels of fc6 and fc7.
        batch_norm: whether VGG16 has batch norms.
        dropout: after fc6 and fc7, in training.
        learn_last_upsampling: False for fixed bilinear interpolation.
        attention: name of an attention block, or None.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        skip_scales: tuple[float, ...],
        *,
        width: int,
        fc_width: int,
        batch_norm: bool,
        dropout: float,
        learn_last_upsampling: bool,
        attention: str | None,
    ) -> None:
        super().__init__()
        self.skip_scales = skip_scales
        self.encoder = FullyConvolutionalVGG16(
            in_channels, width=width, fc_width=fc_width, batch_norm=batch_norm, dropout=dropout
        )
        widths = list_stage_widths(width)
        self.score = nn.Conv2d(fc_width, num_classes, 1)
        self.skip_scores = nn.ModuleList(
            nn.Conv2d(widths[-2 - index], num_classes, 1) for index in range(len(skip_scales))
        )
        self.upsamplings = nn.ModuleList(bilinear_transposed_conv(num_classes, 2) for _ in skip_scales)
        self.last_stride = 2 ** (_DEEPEST_STRIDE_LOG2 - len(skip_scales))
        self.last_upsampling = (
            bilinear_transposed_conv(num_classes, self.last_stride) if learn_last_upsampling else None
        )
        # Built after the layers, so that their initial weights are the same with and without attention.
        first_scored = len(widths) - 1 - len(skip_scales)
        scored_widths = [0] * first_scored + widths[first_scored:-1] + [0, fc_width]
        self.refinement = None if attention is None else Refinement(attention, scored_widths)
        if attention is None or place_of(attention) == "deepest map":
            _set_to_zero(self.skip_scores)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W)."""
        maps = self.encoder(images_NCHW)
        *pooled, deepest_NCHW = maps if self.refinement is None else self.refinement(maps)
        scores_NCHW = self.score(deepest_NCHW)
        skips = zip(reversed(pooled[:-1]), self.skip_scales, self.skip_scores, self.upsamplings, strict=False)
        for features_NCHW, scale, score, upsampling in skips:
            scores_NCHW = crop_to(upsampling(scores_NCHW), features_NCHW) + score(features_NCHW * scale)
        if self.last_upsampling is None:
            return crop_to(upsample_bilinear(scores_NCHW, self.last_stride), images_NCHW)
        return crop_to(self.last_upsampling(scores_NCHW), images_NCHW)


def fcn_builder(name: str, skip_scales: Callable[..., tuple[float, ...]]) -> Build:
    """Gives the `build_model` of FCN-32s, FCN-16s or FCN-8s.

    Args:
        name: of the model, for messages.
        skip_scales: gives the scale of pool4, then that of pool3, as far as they are scored; its arguments are options.
    """

    @with_options_of(skip_scales)
    def build_model(
        *,
        num_classes: int,
        in_channels: int,
        pretrained: bool,
        width: Annotated[int, Field(ge=1)] = 64,
        fc_width: Annotated[int, Field(ge=1)] = 4096,
        batch_norm: bool = False,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        learn_last_upsampling: bool = False,
        attention: str | None = None,
        **options: float,
    ) -> nn.Module:
        """Builds the network; by default as published.

        Args:
            num_classes: channels of the output.
            in_channels: channels of the images.
            pretrained: whether the encoder begins with VGG16's weights from ImageNet.
            width: channels of VGG16's first stage; 2, 4, 8 and 8 times as many in the others. ImageNet's need 64.
            fc_width: channels of fc6 and fc7; with another number than 4096 both always begin random.
            batch_norm: whether VGG16 has batch norms; the paper's has none.
            dropout: share of fc6's and fc7's values that each training step leaves out.
            learn_last_upsampling: whether the last enlargement is learned; in the paper it is bilinear.
            attention: name of an attention block, on the maps that are scored.
            options: the scales of the skips.

        Raises:
            ConfigError: `pretrained` with another width than 64, or there is no such attention block, or no place for
                it.
        """
        scales = skip_scales(**options)
        check_attention(name, attention, has_skips=len(scales) > 0)
        check_width_is_published(width, pretrained=pretrained)
        module = FCN(
            num_classes,
            in_channels,
            scales,
            width=width,
            fc_width=fc_width,
            batch_norm=batch_norm,
            dropout=dropout,
            learn_last_upsampling=learn_last_upsampling,
            attention=attention,
        )
        if pretrained:
            module.encoder.load_imagenet()
        return module

    return build_model


def _set_to_zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
