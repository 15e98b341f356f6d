"""Encoders of smp's list or timm's, by name: their names, weights from ImageNet, and normalisation of images."""

from collections.abc import Sequence

import timm
from segmentation_models_pytorch.encoders import encoders as NATIVE_ENCODERS

from segpipe.choices import nearest
from segpipe.errors import ConfigError

# Mean and standard deviation of red, green and blue, of values 0..1: ImageNet's, and others that encoders of smp's own
# list were trained with (what it publishes with the weights; timm tells its own).
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

TIMM_PREFIX = "tu-"


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
        ConfigError: there are no weights for this encoder.
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
