"""Reads the tensors of weights files, and turns the names that other programs give them into a network's own.

Known are: torchvision's and smp's segmentation networks, classification networks of torchvision and timm for the
encoder alone, and the wrappers that DataParallel, DistributedDataParallel, `torch.compile` and Lightning add.
"""

import pickle
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors.torch import load_file
from torch import nn

from segpipe.errors import ConfigError
from segpipe.inference.network import State

# Other programs keep the tensors under one of these keys, next to optimiser and epoch.
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "ema")
# What others put before each name: parallel training, `torch.compile`, a network as an attribute of another module.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
# The names of parts in torchvision and smp, with ours.
PARTS_OF_OTHERS = {
    "backbone": "encoder", "classifier": "decoder", "aux_classifier": "auxiliary", "segmentation_head": "head",
}  # fmt: skip
SMP_HEAD, ENCODER, AUXILIARY = "segmentation_head.", "encoder.", "auxiliary."


class RenamesClassifier(Protocol):
    """An encoder whose classification network was published with other names than its own."""

    def rename_classifier(self, state: State) -> State:
        """Gives the published tensors by the names of this encoder, or nothing if they are from another network."""


def read_weights(file: Path) -> State:
    """Reads the tensors of a file, by their names in the file without the prefixes of `PREFIXES`.

    Args:
        file: .safetensors, or a file of `torch.save`; no code in it is executed.

    Raises:
        ConfigError: the file holds anything other than tensors.
    """
    where = f"train.model.weights: {file}"
    try:
        if file.suffix == ".safetensors":
            document: Any = load_file(file)
        else:
            document = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to execute the code in the file.
        fix = "get it from its source again; if it is not damaged, save its state_dict alone, best as .safetensors"
        raise ConfigError(f"{where}: is damaged, or holds more than tensors, which is not loaded; {fix}") from error
    except Exception as error:  # a damaged pickle can raise any error: struct.error, KeyError, AssertionError, ...
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{where}: holds no weights: {cause}") from error
    for key in WRAPPERS:
        if isinstance(document, dict) and isinstance(document.get(key), dict):
            document = document[key]
    items = document.items() if isinstance(document, dict) else ()
    if not items or not all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in items):
        raise ConfigError(f"{where}: holds no tensors by name (a state_dict)")
    return _without_prefixes(document)


def _without_prefixes(state: State) -> State:
    """Removes prefixes; names without the prefix of others (a loss or a metric of Lightning's module) are left out."""
    while prefix := next((one for one in PREFIXES if any(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return state


def is_of_smp(state: State) -> bool:
    """Whether tensors are those of a whole network of segmentation_models.pytorch, as it names them."""
    return any(name.startswith(SMP_HEAD) for name in state)


def rename(state: State, network: nn.Module) -> tuple[State, list[str]]:
    """Gives the tensors of other programs the names of a network.

    Args:
        state: as `read_weights` gives them.
        network: what they are for; not changed.

    Returns:
        The tensors, and a sentence for each thing that was left out or is the network's own.
    """
    wanted = network.state_dict()
    encoder = _rename_classifier(state, network, wanted)
    if encoder:
        return {**wanted, **encoder}, ["it is a classifier: all but the encoder begins with random weights"]
    renamed = {}
    for name, tensor in state.items():
        part, dot, rest = name.partition(".")
        renamed[PARTS_OF_OTHERS.get(part, part) + dot + rest] = tensor
    renamed = dict(max(state, renamed, key=lambda names: len(names.keys() & wanted.keys())))
    notes = _exchange_auxiliary(renamed, wanted)
    _move_biases(renamed, wanted)
    # Files of before 2018 do not count batches; the count has no effect, because our batch norms have a momentum.
    counts = {name: wanted[name] for name in wanted.keys() - renamed.keys() if name.endswith("num_batches_tracked")}
    return {**renamed, **counts}, notes


def _rename_classifier(state: State, network: nn.Module, wanted: State) -> State:
    """Gives the tensors of a classification network by the names of the network's encoder; empty if it is none."""
    names = {name.removeprefix(ENCODER) for name in wanted if name.startswith(ENCODER)}
    if not names or any(name.startswith(ENCODER) for name in state):
        return {}
    encoder = network.get_submodule(ENCODER.rstrip("."))
    if hasattr(encoder, "rename_classifier"):
        own = cast("RenamesClassifier", encoder).rename_classifier(state)
    else:
        own = {name: state[name] for name in names} if names <= state.keys() else {}
    return {ENCODER + name: tensor for name, tensor in own.items()}


def _exchange_auxiliary(state: dict[str, torch.Tensor], wanted: State) -> list[str]:
    """Leaves out an auxiliary head that the network does not have, or takes the network's where the file has none."""
    of_file = {name for name in state if name.startswith(AUXILIARY)}
    of_network = {name for name in wanted if name.startswith(AUXILIARY)}
    if of_file and not of_network:
        for name in of_file:
            del state[name]
        return ["its auxiliary head is left out: the network has none"]
    if of_network and not of_file and state.keys() & wanted.keys():
        state |= {name: wanted[name] for name in of_network}
        return ["it has no auxiliary head: that of the network begins with random weights"]
    return []


def _move_biases(state: dict[str, torch.Tensor], wanted: State) -> None:
    """Moves biases of convolutions that the network does not have into the batch norm behind, as in smp's PAN.

    A batch norm subtracts its running mean m, so x + b with m is x with m - b: the same function.
    """
    for name in [name for name in state if name.endswith(".conv.bias") and name not in wanted]:
        mean = name.removesuffix("conv.bias") + "bn.running_mean"
        if mean in state and state[mean].shape == state[name].shape:
            state[mean] = state[mean] - state.pop(name)
