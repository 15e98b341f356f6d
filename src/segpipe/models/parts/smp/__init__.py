"""Networks of segmentation_models.pytorch (smp), with any encoder of smp or timm that fits, for images of any size.

smp's networks take images of certain sizes alone, fail in their first step where an encoder does not fit, and keep
parameters that never get a gradient. So a network is taken apart here, and run once when it is built: that shows what
its encoder gives, what does not fit, and what is never used.

Deviations from smp, for all its networks:
- Images of other sizes are padded with zeros at the right and below, and the logits are cut to the image. Zero is the
  mean colour after normalisation, and what every convolution sees beyond the edge of an image already.
- Layers of the encoder that no logit depends on, as the last norm of a ViT, are taken out.
- Batch norms of encoders with a momentum below torch's 0.1 get 0.1. With the 0.01 of some encoders the running
  statistics need thousands of steps until they describe the network, and shorter trainings fall apart in evaluation.
- Adaptive poolings to more than one cell are matrix products, whose gradients are the same each time on CUDA too.
- Images come normalised by ImageNet's statistics. Encoders that were trained with others, as many ViTs and Xceptions,
  get them normalised by theirs, whatever weights they begin with.

Legend: N samples, C channels, H rows, W columns.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import timm
import torch
import torch.nn.functional as F
from pydantic import Field
from segmentation_models_pytorch.encoders import encoders as NATIVE_ENCODERS
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from segpipe.choices import nearest
from segpipe.errors import ConfigError
from segpipe.models.parts.attention import Refinement, check_attention

# Mean and standard deviation of red, green and blue, of values 0..1: ImageNet's, and others that encoders of smp's own
# list were trained with (what it publishes beside the weights; timm tells its own).
Statistics = tuple[Sequence[float], Sequence[float]]
IMAGENET: Statistics = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES: Statistics = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DUAL_PATH: Statistics = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
NATIVE_STATISTICS = {
    "xception": HALVES,
    "inceptionv4": HALVES,
    "inceptionresnetv2": HALVES,
    "timm-tf_efficientnet_lite": HALVES,
    "dpn": DUAL_PATH,
}

# Batch norm of torch; see the module's docstring.
LEAST_MOMENTUM = 0.1
TIMM_PREFIX = "tu-"
# The smallest image that an encoder of stride 32 makes more than one cell of, and not a square.
TRIAL_HEIGHT_PX, TRIAL_WIDTH_PX = 32, 64

PYRAMID_ENCODERS = (
    "an encoder with maps at strides of 4, 8, 16 and 32 px, such as resnet34, efficientnet-b0, convnext_tiny, "
    "pvt_v2_b2 or swin_tiny_patch4_window7_224"
)
DILATED_ENCODERS = (
    "an encoder that can keep its resolution by dilation, such as resnet50, mobilenet_v2, xception65 or convnext_tiny"
)

# Five widths of a decoder, from the deepest level up.
DecoderChannels = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=5, max_length=5)]


@dataclass(frozen=True)
class Architecture:
    """What a network of smp asks of its encoder and of its images.

    Attributes:
        name: of the model, for messages.
        strides_px: by its number, the stride of each feature map that the decoder takes; one such table for each
            family of encoders that fits. Map 0 of all encoders but ViTs is the image itself.
        fitting: which encoders fit, for messages.
        multiple_px: of which the height and the width of images must be a multiple; smaller ones are padded.
        min_side_px: height and width that images must have at least.
        ways: keyword arguments for timm's encoders, to be tried in this order. Some need to be told that images are not
            always of the size that their weights were trained with.
        is_timm_only: whether the encoders of smp's own list do not come into question.
    """

    name: str
    strides_px: tuple[Mapping[int, int], ...]
    fitting: str
    multiple_px: int = 32
    min_side_px: int = 32
    ways: tuple[Mapping[str, Any], ...] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})
    is_timm_only: bool = False

    @property
    def levels(self) -> tuple[int, ...]:
        """The numbers of the feature maps that the decoder takes."""
        return tuple(self.strides_px[0])


def list_strides(levels: Sequence[int], output_stride: int = 32) -> tuple[Mapping[int, int]]:
    """Gives the strides of an encoder's maps: they halve the resolution in turn, down to `output_stride` px."""
    return ({level: min(2**level, output_stride) for level in levels},)


class _StrideError(Exception):
    """An encoder ran, and its feature maps are not those that the decoder takes."""


class SmpSegmentation(nn.Module):
    """A network of smp in its parts, for images of any size.

    Args:
        network: smp's network.
        architecture: what it asks for.
        num_classes: channels of the auxiliary logits.
        attention: name of the blocks that refine the encoder's feature maps before the decoder takes them, or None.
        auxiliary: whether a second head gives logits from the encoder's second deepest map in training.
        statistics: by which the encoder's images are to be normalised.

    Raises:
        ConfigError: there is no such block, or it belongs to a place that this network has not.
    """

    def __init__(
        self,
        network: nn.Module,
        architecture: Architecture,
        num_classes: int,
        attention: str | None,
        auxiliary: bool,
        statistics: Statistics = IMAGENET,
    ) -> None:
        super().__init__()
        self.rescaling = _Rescaling(statistics) if statistics != IMAGENET else None
        self.multiple_px, self.min_side_px = architecture.multiple_px, architecture.min_side_px
        self.encoder = network.get_submodule("encoder")
        self.decoder = network.get_submodule("decoder")
        self.head = network.get_submodule("segmentation_head")
        channels: list[int] = list(cast("Sequence[int]", self.encoder.out_channels))
        self.refinement = _build_refinement(attention, architecture, channels) if attention is not None else None
        self.auxiliary = FCNHead(channels[-2], num_classes) if auxiliary else None
        _quicken_running_statistics(self.encoder)
        _make_poolings_deterministic(self.decoder)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Gives logits (N, num_classes, H, W) for images (N, in_channels, H, W).

        In training, with an auxiliary head, a tuple: these, and the auxiliary logits at the resolution of the map that
        they come from; where the image had to be padded they are resized to it.
        """
        if self.rescaling is not None:
            images_NCHW = self.rescaling(images_NCHW)
        padded_NCHW = self.pad(images_NCHW)
        features, tokens = self.encode(padded_NCHW)
        refined = features if self.refinement is None else self.refinement(features)
        logits_NCHW = _cut(self.head(self.decoder(refined, *tokens)), images_NCHW)
        if self.auxiliary is None or not self.training:
            return logits_NCHW
        auxiliary_NCHW = self.auxiliary(features[-2])
        if padded_NCHW.shape == images_NCHW.shape:
            return logits_NCHW, auxiliary_NCHW
        resized_NCHW = F.interpolate(auxiliary_NCHW, padded_NCHW.shape[-2:], mode="bilinear", align_corners=False)
        return logits_NCHW, _cut(resized_NCHW, images_NCHW)

    def pad(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Pads images with zeros at the right and below to a size that encoder and decoder can take."""
        height_px, width_px = (
            -(-max(side_px, self.min_side_px) // self.multiple_px) * self.multiple_px
            for side_px in images_NCHW.shape[-2:]
        )
        right_px, below_px = width_px - images_NCHW.shape[-1], height_px - images_NCHW.shape[-2]
        return F.pad(images_NCHW, (0, right_px, 0, below_px)) if right_px or below_px else images_NCHW

    def encode(self, padded_NCHW: torch.Tensor) -> tuple[list[torch.Tensor], list[Any]]:
        """Gives the encoder's feature maps, and what else the decoder takes: of a ViT, its class tokens."""
        encoded = self.encoder(padded_NCHW)
        features, *tokens = encoded if isinstance(encoded, tuple) else (encoded,)
        return features, tokens


def build_segmentation(
    architecture: Architecture,
    build: Callable[..., nn.Module],
    *,
    encoder: str,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    attention: str | None,
    auxiliary: bool,
) -> SmpSegmentation:
    """Builds a network of smp.

    Args:
        architecture: what the network asks for.
        build: builds smp's network; a class of smp's, or what calls one. Gets the names of smp's arguments.
        encoder: name of an encoder of smp or timm.
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: downloads the encoder's weights from ImageNet, where they are not on this machine yet.
        attention: name of an attention block on the encoder's feature maps, or None.
        auxiliary: whether there is an auxiliary head.

    Raises:
        ConfigError: there is no such encoder or attention block, or they do not fit, or the encoder has no weights.
    """
    build = functools.partial(build, classes=num_classes, in_channels=in_channels)
    name = _check_names(architecture, encoder, attention)
    assemble = functools.partial(
        _assemble,
        architecture,
        build,
        num_classes=num_classes,
        attention=attention,
        auxiliary=auxiliary,
        # A first layer for other channels is not that of the published weights.
        statistics=find_statistics(name) if in_channels == 3 else IMAGENET,
    )
    weights = find_weights(architecture.name, name) if pretrained else None
    if torch.get_default_device().type != "meta":
        return _build_fitting(architecture, assemble, name, in_channels, weights)
    try:
        return _build_fitting(architecture, assemble, name, in_channels, weights)
    except (ConfigError, RuntimeError, NotImplementedError):
        # Some encoders look at values while they are built, and on this device there are none.
        with torch.device("cpu"):
            return _build_fitting(architecture, assemble, name, in_channels, weights).to("meta")


def find_encoder(model: str, encoder: str, is_timm_only: bool = False) -> str:
    """Gives the name by which smp knows an encoder: one of its own list comes before timm's of the same name.

    Args:
        model: name of the model, for messages.
        encoder: as the user wrote it: of smp's list, or timm's with or without smp's prefix `tu-`.
        is_timm_only: whether timm's comes first.

    Raises:
        ConfigError: there is no such encoder; the message gives the nearest names.
    """
    bare = encoder.removeprefix(TIMM_PREFIX)
    if encoder in NATIVE_ENCODERS and not (is_timm_only and timm.is_model(bare)):
        return encoder
    if timm.is_model(bare) and ("." not in bare or timm.models.is_model_pretrained(bare)):
        return TIMM_PREFIX + bare
    names = sorted({*NATIVE_ENCODERS, *(timm.list_pretrained() if "." in bare else timm.list_models())})
    raise ConfigError(f"model {model!r}: option encoder: unknown encoder {encoder!r}; {nearest(bare, names)}")


def find_weights(model: str, name: str) -> str | bool:
    """Gives what smp calls an encoder's weights from ImageNet: its own by their name, timm's by True.

    Some encoders of smp have weights that saw other images first; they were all trained on ImageNet in the end.

    Args:
        model: name of the model, for messages.
        name: of the encoder, as `find_encoder` gives it.

    Raises:
        ConfigError: nobody gives weights for this encoder.
    """
    if not name.startswith(TIMM_PREFIX):
        known: list[str] = list(NATIVE_ENCODERS[name]["pretrained_settings"])
        return next((key for key in known if key.startswith("imagenet")), known[0])
    if timm.models.is_model_pretrained(name.removeprefix(TIMM_PREFIX)):
        return True
    raise ConfigError(
        f"model {model!r}: option encoder: timm has no weights for {name.removeprefix(TIMM_PREFIX)!r} "
        "(train.model.weights); take another encoder, or weights: none"
    )


def find_statistics(name: str) -> Statistics:
    """Gives mean and standard deviation by which the images of an encoder's published weights were normalised.

    Args:
        name: of the encoder, as `find_encoder` gives it.
    """
    if name.startswith(TIMM_PREFIX):
        published = timm.get_pretrained_cfg(name.removeprefix(TIMM_PREFIX))
        return (tuple(published.mean), tuple(published.std)) if published is not None else IMAGENET
    return next((found for start, found in NATIVE_STATISTICS.items() if name.startswith(start)), IMAGENET)


class _Rescaling(nn.Module):
    """Takes images (N, 3, H, W) from ImageNet's normalisation to another.

    Args:
        statistics: mean and standard deviation of the other.
    """

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        (from_mean, from_std), (to_mean, to_std) = (map(torch.tensor, pair) for pair in (IMAGENET, statistics))
        # Not saved with the weights: the encoder's name says them.
        self.register_buffer("scale", (from_std / to_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((from_mean - to_mean) / to_std).view(3, 1, 1), persistent=False)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW * self.get_buffer("scale") + self.get_buffer("shift")


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
    assemble: Callable[..., SmpSegmentation],
    name: str,
    in_channels: int,
    weights: str | bool | None,
) -> SmpSegmentation:
    """Builds the network in the first way in which its encoder fits, and takes out what it does not use.

    The trial is without weights: so a download that fails is not taken for an encoder that does not fit.
    """
    misfits: list[Exception] = []
    for way in architecture.ways if name.startswith(TIMM_PREFIX) else ({},):
        try:
            network = assemble(name, weights=None, way=way)
            unused = _try_out(network, architecture, in_channels)
        except ConfigError:
            raise
        except Exception as error:  # each encoder has its own way of failing
            misfits.append(error)
            continue
        if weights is not None:
            network = assemble(name, weights=weights, way=way)
        _remove_unused(network, unused)
        return network
    # A TypeError mostly says no more than that the encoder does not know an argument of this way.
    misfit = min(misfits, key=lambda error: (not isinstance(error, _StrideError), isinstance(error, TypeError)))
    raise _describe_misfit(architecture, name, misfit) from misfit


def _assemble(
    architecture: Architecture,
    build: Callable[..., nn.Module],
    name: str,
    *,
    weights: str | bool | None,
    way: Mapping[str, Any],
    num_classes: int,
    attention: str | None,
    auxiliary: bool,
    statistics: Statistics,
) -> SmpSegmentation:
    network = build(encoder_name=name, encoder_weights=weights, **way)
    return SmpSegmentation(network, architecture, num_classes, attention, auxiliary, statistics)


@torch.enable_grad()  # whatever the caller does: gradients say here what is used
def _try_out(network: SmpSegmentation, architecture: Architecture, in_channels: int) -> set[str]:
    """Runs the network once on a small image and gives the names of the parameters that no logit depends on.

    Raises:
        _StrideError: the encoder's maps have other strides than the decoder takes.
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
    raise _StrideError(f"its maps have strides of {found_text} px, and the decoder takes maps of {wanted_text} px")


def _describe_misfit(architecture: Architecture, name: str, error: Exception) -> ConfigError:
    bare = name.removeprefix(TIMM_PREFIX)
    reason = (str(error) or f"it fails with {type(error).__name__}").splitlines()[0].rstrip(".!")
    if architecture.is_timm_only and not name.startswith(TIMM_PREFIX):
        reason = "it is not of timm"
    if "downsampling pattern" in reason:
        # smp's words for it name neither the strides that it found nor those that it knows.
        with torch.device("meta"):
            strides = timm.create_model(bare, features_only=True).feature_info.reduction()
        reason = f"its maps have strides of {', '.join(map(str, dict.fromkeys(strides)))} px"
    return ConfigError(
        f"model {architecture.name!r}: option encoder: {bare!r} does not fit: {reason}. "
        f"What fits: {architecture.fitting}"
    )


def _build_refinement(attention: str, architecture: Architecture, channels: Sequence[int]) -> Refinement:
    return Refinement(attention, [width if level in architecture.levels else 0 for level, width in enumerate(channels)])


def _quicken_running_statistics(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is not None:
            module.momentum = max(module.momentum, LEAST_MOMENTUM)


def _remove_unused(module: nn.Module, unused: set[str], prefix: str = "") -> None:
    """Takes out the layers all of whose parameters are unused; single ones in used layers are frozen."""
    for name, child in module.named_children():
        path = f"{prefix}{name}."
        parameters = {path + key for key, _ in child.named_parameters()}
        if parameters and parameters <= unused:
            setattr(module, name, nn.Identity())
        elif parameters & unused:
            _remove_unused(child, unused, path)
    for name, parameter in module.named_parameters(recurse=False):
        parameter.requires_grad_(prefix + name not in unused)


class MatrixPool(nn.Module):
    """Adaptive average pooling to a fixed number of cells, as two matrix products.

    Gives what `nn.AdaptiveAvgPool2d` gives, whose gradients on CUDA are summed up in an order that changes from run to
    run. Cell i of n takes the rows from floor(i * H / n) to ceil((i + 1) * H / n).

    Args:
        num_cells: rows and columns of the output.
    """

    def __init__(self, num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells

    def forward(self, features_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives (N, C, num_cells, num_cells) for features (N, C, H, W)."""
        height, width = features_NCHW.shape[-2:]
        return self._average(height, features_NCHW) @ features_NCHW @ self._average(width, features_NCHW).T

    def _average(self, length: int, like: torch.Tensor) -> torch.Tensor:
        cell = torch.arange(self.num_cells, device=like.device)[:, None]
        position = torch.arange(length, device=like.device)[None]
        begin, end = cell * length // self.num_cells, -(-(cell + 1) * length // self.num_cells)
        return ((position >= begin) & (position < end)).to(like.dtype) / (end - begin).to(like.dtype)


def _make_poolings_deterministic(decoder: nn.Module) -> None:
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            num_cells = size[0] if isinstance(size, tuple) else size
            # To one cell torch takes the mean, whose gradient is the same each time.
            if num_cells != 1:
                assert num_cells is not None and size in (num_cells, (num_cells, num_cells))
                decoder.set_submodule(name, MatrixPool(num_cells))


def _cut(padded_NCHW: torch.Tensor, images_NCHW: torch.Tensor) -> torch.Tensor:
    height_px, width_px = images_NCHW.shape[-2:]
    return padded_NCHW[..., :height_px, :width_px]
