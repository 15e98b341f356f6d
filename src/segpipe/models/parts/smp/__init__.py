"""Networks of segmentation_models.pytorch (smp), with any encoder of smp or timm that fits, for images of any size.

smp's networks take only images of certain sizes, fail in their first step if an encoder does not fit, and keep
parameters that never get a gradient. So a network is split into our parts here, and run once when it is built. This
shows its encoder's maps, whether they fit, and which parameters are never used.

Deviations from smp, for all its networks:
- Images of other sizes are padded with zeros at the right and below, and the logits are cut to the image. Zero is the
  mean colour after normalisation, and every convolution already pads with it.
- Layers of the encoder that no logit depends on, for example the last norm of a ViT, are removed.
- Batch norms of encoders with a momentum below torch's 0.1 get 0.1. With the 0.01 of some encoders the running
  statistics need thousands of steps until they fit the network, and shorter trainings have bad scores in evaluation.
- Adaptive poolings to more than one cell are matrix products, whose gradients are the same each time on CUDA too.
- Bilinear resizing keeps the centres of cells in place, smp's keeps the corners of maps: a cell then lies up to
  (stride - 1) / 2 px off its place, which depends on the image's width, and an image and its tiles differ. The option
  `align_corners: true` does as smp does; weights of smp's own networks are taken with it.
- Images arrive normalised by ImageNet's statistics. Encoders that were trained with other statistics, such as many ViTs
  and Xceptions, get images normalised by these, with any initial weights.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.options import Build, with_options_of
from segpipe.models.parts.smp.architecture import Architecture
from segpipe.models.parts.smp.encoders import IMAGENET, TIMM_PREFIX, find_encoder, find_statistics, find_weights
from segpipe.models.parts.smp.network import SmpSegmentation
from segpipe.models.parts.smp.trial import StrideError, describe_misfit, remove_unused, try_out


def smp_builder(describe: Callable[..., Architecture], *, encoder: str, auxiliary: bool = False) -> Build:
    """Gives the `build_model` of a network of smp.

    Args:
        describe: gives the architecture; its arguments are the model's own options, besides those of all smp models.
        encoder: default of the option.
        auxiliary: default of the option.
    """
    default_encoder, default_auxiliary = encoder, auxiliary

    @with_options_of(describe)
    def build_model(
        *,
        num_classes: int,
        in_channels: int,
        pretrained: bool,
        encoder: str = default_encoder,
        attention: str | None = None,
        auxiliary: bool = default_auxiliary,
        **options: Any,
    ) -> nn.Module:
        """Builds the network.

        Args:
            num_classes: channels of the logits.
            in_channels: channels of the images.
            pretrained: whether the encoder begins with weights from ImageNet.
            encoder: name of an encoder of smp, or of any model of timm that fits.
            attention: name of an attention block on the encoder's feature maps, where it belongs.
            auxiliary: whether an FCN head on the second deepest map gives logits in training too.
            options: those of the architecture.

        Raises:
            ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights.
        """
        return build_segmentation(
            describe(**options),
            encoder=encoder,
            num_classes=num_classes,
            in_channels=in_channels,
            pretrained=pretrained,
            attention=attention,
            auxiliary=auxiliary,
        )

    return build_model


@torch.inference_mode(False)  # the trial needs gradients, of parameters that were made outside of that mode
def build_segmentation(
    architecture: Architecture,
    *,
    encoder: str,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    attention: str | None,
    auxiliary: bool,
) -> SmpSegmentation:
    """Builds a network of smp; the arguments are those of a model, see `smp_builder`.

    Raises:
        ConfigError: there is no such encoder or attention block, or they do not fit, or the encoder has no weights.
    """
    name = _check_names(architecture, encoder, attention)
    # A first layer for other channels is not that of the published weights.
    statistics = find_statistics(name) if in_channels == 3 else IMAGENET

    def assemble(weights: str | bool | None, way: Mapping[str, Any]) -> SmpSegmentation:
        sizes = {"classes": num_classes, "in_channels": in_channels}
        network = architecture.build(encoder_name=name, encoder_weights=weights, **sizes, **way)
        return SmpSegmentation(network, architecture, num_classes, attention, auxiliary, statistics)

    weights = find_weights(architecture.name, name) if pretrained else None
    build = partial(_build_fitting, architecture, assemble, name, in_channels, weights)
    if torch.get_default_device().type != "meta":
        return build()
    try:
        return build()
    except ConfigError:
        # Some encoders look at values while they are built, and on this device there are none: `_build_fitting` takes
        # them for unfit. An encoder that is unfit is refused again on the CPU.
        with torch.device("cpu"):
            return build().to("meta")


def _check_names(architecture: Architecture, encoder: str, attention: str | None) -> str:
    name, problems = "", []
    try:
        name = find_encoder(architecture.name, encoder, architecture.is_timm_only)
    except ConfigError as error:
        problems.append(str(error))
    try:
        check_attention(architecture.name, attention, has_skips=len(architecture.levels) > 1)
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return name


def _build_fitting(
    architecture: Architecture,
    assemble: Callable[[str | bool | None, Mapping[str, Any]], SmpSegmentation],
    name: str,
    in_channels: int,
    weights: str | bool | None,
) -> SmpSegmentation:
    """Builds the network in the first way in which its encoder fits, and removes unused layers.

    The trial loads no weights, so that a failed download is not reported as an encoder that does not fit.
    """
    misfits: list[Exception] = []
    for way in architecture.ways if name.startswith(TIMM_PREFIX) else ({},):
        try:
            network = assemble(None, way)
            unused = try_out(network, architecture, in_channels)
        except ConfigError:
            raise
        except Exception as error:  # each encoder has its own way of failing
            misfits.append(error)
            continue
        if weights is not None:
            network = assemble(weights, way)
        remove_unused(network, unused)
        return network
    # A TypeError mostly says no more than that the encoder does not know an argument of this way.
    misfit = min(misfits, key=lambda error: (not isinstance(error, StrideError), isinstance(error, TypeError)))
    raise describe_misfit(architecture, name, misfit) from misfit
