"""Checks that an encoder fits a network: runs it once on a small image, which also shows unused parameters."""

from collections.abc import Sequence

import timm
import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.smp.architecture import Architecture
from segpipe.models.parts.smp.encoders import TIMM_PREFIX
from segpipe.models.parts.smp.network import SmpSegmentation

# The smallest image that an encoder of stride 32 makes more than one cell of, and not a square.
TRIAL_HEIGHT_PX, TRIAL_WIDTH_PX = 32, 64


class StrideError(Exception):
    """An encoder ran, and its feature maps are not those that the decoder takes."""


@torch.enable_grad()  # whatever the caller does: gradients say here what is used
def try_out(network: SmpSegmentation, architecture: Architecture, in_channels: int) -> set[str]:
    """Runs the network once on a small image and gives the names of the parameters that no logit depends on.

    Raises:
        StrideError: the encoder's maps have other strides than the decoder takes.
        Exception: whatever else the encoder or the decoder fails with.
    """
    device = next(network.parameters()).device
    images_NCHW = torch.zeros(1, in_channels, TRIAL_HEIGHT_PX, TRIAL_WIDTH_PX, device=device)
    network.eval()
    padded_NCHW = network.pad(images_NCHW)
    features, _ = network.encode(padded_NCHW)
    _check_strides(features, padded_NCHW, architecture)
    logits_NCHW = network(images_NCHW)
    outputs = [logits_NCHW] if network.auxiliary is None else [logits_NCHW, network.auxiliary(features[-2])]
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad([output.sum() for output in outputs], parameters, allow_unused=True)
    network.train()
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is None}


def _check_strides(features: Sequence[torch.Tensor], images_NCHW: torch.Tensor, architecture: Architecture) -> None:
    found = [images_NCHW.shape[-1] // features_NCHW.shape[-1] for features_NCHW in features]
    # A map without channels stands for one that the encoder does not have; smp's decoders go without.
    present = [level for level, features_NCHW in enumerate(features) if features_NCHW.shape[1]]
    for strides_px in architecture.strides_px:
        wanted = {level: stride for level, stride in strides_px.items() if level in present or level >= len(features)}
        if all(level < len(found) and found[level] == stride for level, stride in wanted.items()):
            return
    wanted_text = " or ".join(", ".join(map(str, strides.values())) for strides in architecture.strides_px)
    found_text = ", ".join(str(found[level]) for level in present if level in architecture.levels)
    raise StrideError(f"its maps have strides of {found_text} px, and the decoder takes maps of {wanted_text} px")


def describe_misfit(architecture: Architecture, name: str, error: Exception) -> ConfigError:
    """Gives the error for a user whose encoder failed with another in the trial.

    Args:
        architecture: that it does not fit.
        name: of the encoder, as `find_encoder` gives it.
        error: what `try_out` or the building raised.
    """
    bare = name.removeprefix(TIMM_PREFIX)
    reason = (str(error) or f"it fails with {type(error).__name__}").splitlines()[0].rstrip(".!")
    if architecture.is_timm_only and not name.startswith(TIMM_PREFIX):
        reason = "it is not an encoder of timm"
    if "downsampling pattern" in reason:
        # smp's words for it name neither the strides that it found nor those that it knows.
        with torch.device("meta"):
            strides = timm.create_model(bare, features_only=True).feature_info.reduction()
        reason = f"its maps have strides of {', '.join(map(str, dict.fromkeys(strides)))} px"
    return ConfigError(
        f"model {architecture.name!r}: option encoder: {bare!r} does not fit: {reason}. "
        f"What fits: {architecture.fitting}"
    )


def remove_unused(module: nn.Module, unused: set[str], prefix: str = "") -> None:
    """Removes layers whose parameters are all unused; freezes single unused parameters in other layers."""
    for name, child in module.named_children():
        path = f"{prefix}{name}."
        parameters = {path + key for key, _ in child.named_parameters()}
        if parameters and parameters <= unused:
            setattr(module, name, nn.Identity())
        elif parameters & unused:
            remove_unused(child, unused, path)
    for name, parameter in module.named_parameters(recurse=False):
        parameter.requires_grad_(prefix + name not in unused)
