"""The initial weights of a training: from a file, a registered model or ImageNet, fitted to the network.

Two layers may differ from the weights. The first layer is adapted if the number of channels differs. The head begins
with random weights if the classes differ. Their parameters are found by building the model twice: they are those whose
shape changes with the number of channels, or of classes.
"""

import functools
import hashlib
import json
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from segpipe.choices import MODELS
from segpipe.config.train import ModelChoice
from segpipe.documents import BuiltModel
from segpipe.documents import InitialWeights as InitialWeights
from segpipe.errors import ConfigError
from segpipe.files import sha256_of_file
from segpipe.inference.cost import without_content
from segpipe.inference.network import State, build_network, list_differences
from segpipe.models import read_card
from segpipe.training.beginning.foreign_weights import is_of_smp, read_weights, rename

log = logging.getLogger(__name__)

HTTP_CLIENTS = {"http", "httpx", "httpx2", "huggingface_hub", "requests", "urllib"}
DAMAGES = ("PytorchStreamReader failed", "unexpected EOF", "invalid hash value")
CACHES = (
    "torch's `~/.cache/torch/hub/checkpoints`, or the same below TORCH_HOME; Hugging Face's "
    "`~/.cache/huggingface/hub`, or the same below HF_HOME"
)
NUM_CLASSES_TRIED, CHANNELS_TRIED = (2, 3), (3, 4)


@dataclass(frozen=True)
class Given:
    """Weights in a file.

    Args:
        file: the file.
        class_names: the classes of the head's outputs, in order; None if they are not known.
        version: version of a registered model, or None.
        model: that was trained; None if it is not known.
    """

    file: Path
    class_names: tuple[str, ...] | None = None
    version: str | None = None
    model: BuiltModel | None = None


def make_network(
    choice: ModelChoice, class_names: tuple[str, ...], fetch: Callable[[str], Given]
) -> tuple[nn.Module, BuiltModel, InitialWeights]:
    """Builds the network that a training begins with.

    Args:
        choice: `train.model`.
        class_names: the classes of the head's outputs, in order.
        fetch: downloads the weights of a registered model from its address.

    Returns:
        The network; what builds it, with the options that its weights ask for; where the weights came from.

    Raises:
        ConfigError: the weights cannot be read, or are from another model; the message lists all differences.
    """
    given: Given | None = None
    state: State = {}
    trained_with: Mapping[str, Any] | None = None
    if choice.weights not in {"none", "imagenet"}:
        given = Given(Path(choice.weights)) if choice.is_from_file else fetch(choice.weights)
        sha256 = _check_sha256(given.file, choice)
        state = read_weights(given.file)
        trained_with = _options_of(state, given, choice.name)
    model = BuiltModel(choice.name, _choose_options(choice, trained_with), choice.in_channels)

    def build(num_classes: int = len(class_names), in_channels: int = choice.in_channels) -> nn.Module:
        return build_network(model.name, model.options, num_classes, in_channels)

    if choice.weights == "none":
        return build(), model, InitialWeights("none")
    if given is None:
        network, initial = _from_imagenet(model, len(class_names), build)
        return network, model, initial
    network = build()
    fit_weights(network, state, build, choice.weights, given.class_names in {None, class_names})
    return network, model, InitialWeights(choice.weights, given.version, sha256)


def _options_of(state: State, given: Given, name: str) -> Mapping[str, Any] | None:
    """Gives the options that weights were trained with; None if they are not known."""
    if is_of_smp(state):
        return {}
    return given.model.options if given.model is not None and given.model.name == name else None


def _choose_options(choice: ModelChoice, trained_with: Mapping[str, Any] | None) -> dict[str, Any]:
    """Gives a model's options: the user's, and each that the model did not always have.

    Such an option has the value that the weights were trained with, if this is known, else its default.
    """
    earlier = read_card(choice.name).earlier
    defaults: dict[str, Any] = MODELS.function_of(choice.name).__kwdefaults__ or {}
    of_weights = defaults if trained_with is None else {**earlier, **trained_with}
    chosen = {key: of_weights[key] for key in earlier}
    for key in chosen.keys() - choice.options.keys():
        if chosen[key] != defaults[key]:
            log.info("train.model.options: %s: %s, as the weights were trained", key, json.dumps(chosen[key]))
    return {**chosen, **choice.options}


def _from_imagenet(
    model: BuiltModel, num_classes: int, build: Callable[..., nn.Module]
) -> tuple[nn.Module, InitialWeights]:
    without_content(build)  # finds a wrong option before the download
    try:
        pretrained = build_network(model.name, model.options, num_classes, is_pretrained=True)
    except ConfigError:
        raise
    except Exception as error:  # three libraries download, each with its own errors
        what = f"the weights from ImageNet for model {model.name!r}"
        if _is_of_damage(error):
            fix = f"delete the library's copy, then it is downloaded again ({CACHES})"
            raise ConfigError(f"{what} are damaged: {error}\n{fix}") from error
        if not _is_of_network(error):
            raise
        raise ConfigError(
            f"{what} cannot be downloaded: {error}\n"
            "To train without a network, either start the same training once on a machine with a network, copy its "
            f"caches ({CACHES}) to the same place here and set HF_HUB_OFFLINE=1; or write train.model.weights: PATH, a "
            "file of such a network or of its encoder, with its sha256; or write train.model.weights: none"
        ) from error
    state = pretrained.state_dict()
    initial = InitialWeights("imagenet", sha256=_sha256_of_tensors(pretrained.get_submodule("encoder").state_dict()))
    if model.in_channels == 3:
        return pretrained, initial
    network = build()
    fit_weights(network, state, build, "imagenet", is_same_head=True)
    return network, initial


def _is_of_network(error: BaseException) -> bool:
    """Whether a download failed: such errors are an OSError, or defined by an HTTP client."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & HTTP_CLIENTS)


def _is_of_damage(error: BaseException) -> bool:
    """Whether a library's copy of a file is damaged: torch verifies the hash only at the download."""
    if isinstance(error, RuntimeError):
        return any(sign in str(error) for sign in DAMAGES)
    return isinstance(error, (EOFError, pickle.UnpicklingError, SafetensorError))


def check_file(choice: ModelChoice) -> str:
    """Gives the sha256 of the file that `train.model.weights` names.

    Raises:
        ConfigError: the file is missing, or its sha256 is not the one in the settings.
    """
    return _check_sha256(Path(choice.weights), choice)


def _check_sha256(file: Path, choice: ModelChoice) -> str:
    try:
        found = sha256_of_file(file)
    except OSError as error:
        raise ConfigError(f"train.model.weights: {file}: {error.strerror or error}") from error
    if choice.sha256 is not None and found != choice.sha256:
        raise ConfigError(f"train.model.sha256: {file} has the sha256 {found}, not {choice.sha256}")
    return found


def fit_weights(
    network: nn.Module, state: State, build: Callable[..., nn.Module], source: str, is_same_head: bool
) -> None:
    """Loads weights into a network; adapts the first layer and replaces the head where they differ.

    Args:
        network: changed in place.
        state: the weights, by the network's names.
        build: builds the same model; takes `num_classes` and `in_channels`.
        source: name of the weights, for messages.
        is_same_head: whether the classes of the weights are the network's, or not known.

    Raises:
        ConfigError: the weights are from another model; the message lists the differences.
    """
    wanted = network.state_dict()
    state, notes = rename(state, network)
    head = _parameters_that_follow(lambda number: build(num_classes=number), NUM_CLASSES_TRIED)
    first = _parameters_that_follow(lambda number: build(in_channels=number), CHANNELS_TRIED)
    fitted = dict(state)
    for name in first & fitted.keys() & wanted.keys():
        fitted[name] = _adapt_channels(fitted[name], wanted[name])
    if not is_same_head or any(name in fitted and fitted[name].shape != wanted[name].shape for name in head):
        fitted |= {name: wanted[name] for name in head}
        notes.append(f"its classes differ: the head begins with random weights ({', '.join(sorted(head))})")
    elif missing := head - fitted.keys():
        fitted |= {name: wanted[name] for name in missing}
        notes.append(f"it has no head: the head begins with random weights ({', '.join(sorted(missing))})")
    if differences := list_differences(wanted, fitted):
        raise ConfigError(f"train.model.weights: {source} is from another model, or has other options:\n{differences}")
    network.load_state_dict(fitted)
    if any(name in state and state[name].shape != wanted[name].shape for name in first):
        notes.append(f"the first layer was adapted to {wanted[min(first)].shape[1]} channels")
    for note in notes:
        log.info("%s: %s", source, note)


def _parameters_that_follow(build: Callable[[int], nn.Module], numbers: tuple[int, int]) -> set[str]:
    """Gives the names of the parameters whose shapes depend on a number."""
    few, more = (without_content(functools.partial(build, number)).state_dict() for number in numbers)
    return {name for name, tensor in few.items() if more[name].shape != tensor.shape}


def _adapt_channels(weight_OIHW: torch.Tensor, wanted_OIHW: torch.Tensor) -> torch.Tensor:
    """Gives a first layer's weights for another number of channels.

    For an image with equal channels the layer gives the same output as before. With more channels, the channels take
    the old weights in turn, and channels with the same old weight share it evenly. With fewer channels, the old weights
    are dealt to them in turn and summed. Deviation from timm, which scales all weights by the same factor: from three
    to four channels that keeps the sum only if the weights are equal.
    """
    found, wanted = weight_OIHW.shape, wanted_OIHW.shape
    if found == wanted or len(found) < 2 or found[:1] != wanted[:1] or found[2:] != wanted[2:]:
        return weight_OIHW
    if wanted[1] < found[1]:
        return torch.stack([weight_OIHW[:, first :: wanted[1]].sum(dim=1) for first in range(wanted[1])], dim=1)
    turn = torch.arange(wanted[1]) % found[1]
    num_sharing = torch.bincount(turn)[turn].view(-1, *[1] * (len(found) - 2))
    return weight_OIHW[:, turn] / num_sharing


def _sha256_of_tensors(state: State) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
