"""Builds a network, and loads a trained one from its files.

`model.json` says how to build the network and what its outputs mean; `weights.safetensors` holds its parameters. There
are no pickles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from segpipe.choices import MODELS
from segpipe.classes import ClassTable
from segpipe.config.evaluate import Inference
from segpipe.documents import DECIDES_NOTHING, ImageMapping, NetworkDescription
from segpipe.errors import MAX_PROBLEMS_SHOWN, ConfigError, StoreError
from segpipe.files import sha256_of_file
from segpipe.inference.predictor import AS_TRAINED, Predictor
from segpipe.models import has_pretrained, read_card
from segpipe.places import INFERENCE_FILE, MODEL_FILE, WEIGHTS_FILE

State = Mapping[str, torch.Tensor]


def build_network(
    name: str, options: Mapping[str, Any], num_classes: int, in_channels: int = 3, is_pretrained: bool = False
) -> nn.Module:
    """Builds a model in channels-last layout; its input is always RGB images.

    Args:
        name: the model's name.
        options: the model's options.
        num_classes: channels of the logits.
        in_channels: channels of the first layer; with 1 its input is the mean of the colours.
        is_pretrained: loads the encoder's weights from ImageNet, and downloads them if they are not on this machine.

    Raises:
        ConfigError: unknown name or option, or no weights from ImageNet.
    """
    if is_pretrained:
        check_pretrained(name)
    context = {"pretrained": is_pretrained} if has_pretrained(name) else {}
    network: nn.Module = MODELS.call(name, options, num_classes=num_classes, in_channels=in_channels, **context)
    if in_channels == 1:
        # A hook and not a layer, so that the names of the parameters do not change.
        network.register_forward_pre_hook(_average_colors)
    return network.to(memory_format=torch.channels_last)


def check_pretrained(name: str) -> None:
    """Checks that a part of the model has weights from ImageNet.

    Raises:
        ConfigError: no part has such weights.
    """
    if not has_pretrained(name):
        known = ", ".join(other for other in MODELS.names() if has_pretrained(other))
        raise ConfigError(f"model {name!r} has no weights from ImageNet (train.model.weights); models that do: {known}")


def _average_colors(module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return inputs[0].mean(dim=1, keepdim=True)


def list_differences(wanted: State, found: State) -> str:
    """Lists the differences between the tensors of a network and of a file, one a line; empty if there are none."""
    lines = [f"missing: {name} {tuple(tensor.shape)}" for name, tensor in wanted.items() if name not in found]
    lines += [f"not in the network: {name} {tuple(found[name].shape)}" for name in found if name not in wanted]
    lines += [
        f"{name}: {tuple(found[name].shape)} where the network has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if len(lines) > MAX_PROBLEMS_SHOWN:
        lines = [*lines[:MAX_PROBLEMS_SHOWN], f"and {len(lines) - MAX_PROBLEMS_SHOWN} more"]
    return "\n".join(f"  {line}" for line in lines)


@dataclass(frozen=True)
class Network:
    """A trained network, ready to predict.

    Args:
        module: the network in evaluation mode, on its device.
        classes: the classes of its outputs.
        weights_sha256: sha256 of the file with its weights.
        inference: how it predicts.
        image_mapping: how the files of its images are to be read.
    """

    module: nn.Module
    classes: ClassTable
    weights_sha256: str
    inference: Inference = AS_TRAINED
    image_mapping: ImageMapping = DECIDES_NOTHING

    @staticmethod
    def load(folder: Path, device: torch.device) -> "Network":
        """Loads `model.json` and `weights.safetensors`, and `inference.json` where a registered model has one.

        Raises:
            StoreError: a file is missing, damaged, or does not fit the other.
        """
        try:
            description = NetworkDescription.read(folder / MODEL_FILE, "run `dvc repro train`")
        except StoreError as error:
            raise StoreError(f"{folder}: holds no usable model: {error}") from error
        classes, model = description.classes, description.model
        try:
            found = sha256_of_file(folder / WEIGHTS_FILE)
            if found != description.weights_sha256:
                fix = "take both files from one training (`dvc checkout`, or `dvc repro --force train`)"
                raise StoreError(f"{folder / WEIGHTS_FILE}: its sha256 is not the one in {MODEL_FILE}; {fix}")
            options = {**read_card(model.name).earlier, **model.options}
            module = build_network(model.name, options, classes.num_classes, model.in_channels)
            weights = load_file(folder / WEIGHTS_FILE)
            if differences := list_differences(module.state_dict(), weights):
                raise StoreError(
                    f"{folder / WEIGHTS_FILE}: is not from the model in {MODEL_FILE} "
                    f"({model.name!r} for {classes.num_classes} classes), or the model's code has changed since:\n"
                    f"{differences}\n"
                    "Run `dvc repro train`, or predict with the code that trained it"
                )
            module.load_state_dict(weights)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise StoreError(f"{folder}: holds no usable model: {error}; run `dvc repro train`") from error
        inference = _read_inference(folder / INFERENCE_FILE)
        return Network(module.to(device).eval(), classes, found, inference, description.image_mapping)

    @property
    def predictor(self) -> Predictor:
        """Predicts as the model was measured."""
        return Predictor(self.module, self.inference)

    def predict(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Predicts masks.

        Args:
            images_NHWC: (N, H, W, 3) uint8 RGB, any H and W.

        Returns:
            (N, H, W) uint8 class indices.
        """
        return self.predictor.predict_masks(images_NHWC)


def _read_inference(path: Path) -> Inference:
    """Reads how a registered model predicts; a model without the file is the network alone."""
    if not path.exists():
        return AS_TRAINED
    try:
        return Inference.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path}: {error}; download the model again, or run `dvc repro`") from error
