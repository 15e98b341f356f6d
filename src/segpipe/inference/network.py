"""A trained network: its pixels' way in, its file on disk, its masks.

`model.json` says how to build it and what its outputs mean, `weights.safetensors` holds its parameters. Nothing is
pickled.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from segpipe.choices import MODELS
from segpipe.classes import ClassTable
from segpipe.errors import MAX_PROBLEMS_SHOWN, ConfigError, StoreError
from segpipe.files import sha256_of_file
from segpipe.inference.tiles import Tile, is_huge, plan_tiles
from segpipe.models import has_pretrained

State = Mapping[str, torch.Tensor]

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"

# ImageNet's statistics, the field's custom; RGB, of values 0..255.
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)


def build_network(
    name: str, options: Mapping[str, Any], num_classes: int, in_channels: int = 3, is_pretrained: bool = False
) -> nn.Module:
    """Builds a model of the zoo in channels-last layout; its input are RGB images in any case.

    Args:
        name: of the model.
        options: its own.
        num_classes: channels of the logits.
        in_channels: channels of the first layer; 1 sees the mean of the colours.
        is_pretrained: downloads the encoder's weights from ImageNet, where they are not on this machine yet.

    Raises:
        ConfigError: unknown name or option, or no weights from ImageNet.
    """
    if is_pretrained:
        check_pretrained(name)
    context = {"pretrained": is_pretrained} if has_pretrained(name) else {}
    network: nn.Module = MODELS.call(name, options, num_classes=num_classes, in_channels=in_channels, **context)
    if in_channels == 1:
        # A hook, not a layer: the names of the parameters stay as they are.
        network.register_forward_pre_hook(_average_colors)
    return network.to(memory_format=torch.channels_last)


def check_pretrained(name: str) -> None:
    """Checks that a part of the model has weights from ImageNet.

    Raises:
        ConfigError: it has none.
    """
    if not has_pretrained(name):
        known = ", ".join(other for other in MODELS.names() if has_pretrained(other))
        raise ConfigError(f"model {name!r} has no weights from ImageNet (train.model.weights); models that do: {known}")


def _average_colors(module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return inputs[0].mean(dim=1, keepdim=True)


def list_differences(wanted: State, found: State) -> str:
    """Says line by line what the tensors of a network and of a file do not have in common; empty where they fit."""
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


def to_input(images_NHWC: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Hands images over as uint8 and normalises them on the device.

    Args:
        images_NHWC: (N, H, W, 3) uint8 RGB.
        device: where the network is.

    Returns:
        (N, 3, H, W) float32 in channels-last layout, which is how the images already lie in memory.
    """
    return normalize(torch.tensor(images_NHWC).to(device, non_blocking=True))


def normalize(images_NHWC: torch.Tensor) -> torch.Tensor:
    """Normalises images where they are.

    Args:
        images_NHWC: (N, H, W, 3) uint8 RGB; not changed.

    Returns:
        (N, 3, H, W) float32 in channels-last layout.
    """
    num_images, height, width, num_channels = images_NHWC.shape
    # A whole row at once: to repeat three numbers along the innermost axis takes ten times as long on a CPU.
    mean, std = (torch.tensor(values, device=images_NHWC.device).repeat(width) for values in (MEAN_RGB, STD_RGB))
    rows = images_NHWC.reshape(num_images * height, width * num_channels).float().sub_(mean).div_(std)
    return rows.view(images_NHWC.shape).permute(0, 3, 1, 2)


def logits_of_tile(module: nn.Module, image: npt.NDArray[np.uint8], tile: Tile, device: torch.device) -> torch.Tensor:
    """Runs a network over one piece of a huge image.

    Args:
        module: in evaluation mode.
        image: (height, width, 3) uint8 RGB; of a memory map only the tile's window is read.
        tile: which piece.
        device: where the module is.

    Returns:
        (1, num_classes, height, width) logits of the tile's core.
    """
    logits_NCHW: torch.Tensor = module(to_input(image[tile.window][None], device))
    return logits_NCHW[:, :, *tile.core_in_window]


def predict_masks(module: nn.Module, images_NHWC: npt.NDArray[np.uint8], device: torch.device) -> npt.NDArray[np.uint8]:
    """Predicts masks: of images of up to `MAX_WHOLE_PX` whole and in one batch, of huge ones tile by tile.

    Args:
        module: in evaluation mode.
        images_NHWC: (N, H, W, 3) uint8 RGB, any H and W.
        device: where the module is.

    Returns:
        (N, H, W) uint8 class indices.
    """
    if not is_huge(*images_NHWC.shape[1:3]):
        return _most_likely(module(to_input(images_NHWC, device)))
    masks_NHW = np.empty(images_NHWC.shape[:3], np.uint8)
    for image, mask in zip(images_NHWC, masks_NHW, strict=True):
        for tile in plan_tiles(*mask.shape):
            mask[tile.core] = _most_likely(logits_of_tile(module, image, tile, device))[0]
    return masks_NHW


def _most_likely(logits_NCHW: torch.Tensor) -> npt.NDArray[np.uint8]:
    # max, not argmax: ten times as fast on the CPU, and the same.
    masks_NHW: npt.NDArray[np.uint8] = logits_NCHW.max(dim=1).indices.to(torch.uint8).cpu().numpy()
    return masks_NHW


@dataclass(frozen=True)
class Network:
    """A trained network, ready to predict.

    Args:
        module: in evaluation mode, on its device.
        classes: what its outputs mean.
        device: where it computes.
        weights_sha256: of the file of its weights.
    """

    module: nn.Module
    classes: ClassTable
    device: torch.device
    weights_sha256: str

    @staticmethod
    def load(folder: Path, device: torch.device) -> "Network":
        """Loads `model.json` and `weights.safetensors`.

        Raises:
            StoreError: a file is missing, damaged, or does not fit the other.
        """
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            found = sha256_of_file(folder / WEIGHTS)
            if found != description["weights_sha256"]:
                mend = "take both files from one training (`dvc checkout`, or `dvc repro --force train`)"
                raise StoreError(f"{folder / WEIGHTS}: is not what {DESCRIPTION} describes (sha256); {mend}")
            classes = ClassTable.from_json(description["classes"])
            model = description["model"]
            # Versions of before there was a choice have no number of channels.
            in_channels = model.get("in_channels", 3)
            module = build_network(model["name"], model["options"], classes.num_classes, in_channels)
            weights = load_file(folder / WEIGHTS)
            if differences := list_differences(module.state_dict(), weights):
                raise StoreError(
                    f"{folder / WEIGHTS}: is not of the model that {DESCRIPTION} describes ({model['name']!r} for "
                    f"{classes.num_classes} classes), or the model was changed since:\n{differences}\n"
                    "Run `dvc repro train`, or predict with the sources that trained it"
                )
            module.load_state_dict(weights)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise StoreError(f"{folder}: holds no usable model: {error}; run `dvc repro train`") from error
        return Network(module.to(device).eval(), classes, device, found)

    @torch.inference_mode()
    def predict(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Predicts masks.

        Args:
            images_NHWC: (N, H, W, 3) uint8 RGB, any H and W.

        Returns:
            (N, H, W) uint8 class indices.
        """
        return predict_masks(self.module, images_NHWC, self.device)
