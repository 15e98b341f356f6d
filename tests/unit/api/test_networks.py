"""Networks that are to be trained: options, weights, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_network import OPTIONS

import segpipe
from segpipe.errors import ConfigError
from segpipe.places import WEIGHTS_FILE


def test_a_network_has_the_classes_and_options_that_are_asked_for() -> None:
    network = segpipe.build_model("unet", num_classes=5, **OPTIONS)
    assert isinstance(network, torch.nn.Module) and network.training
    assert network.eval()(torch.zeros(2, 3, 32, 48)).shape == (2, 5, 32, 48)
    assert segpipe.build_model("unet", 5, in_channels=1, **OPTIONS).eval()(torch.zeros(1, 3, 32, 32)).shape[1] == 5


def test_weights_of_a_file_are_loaded_and_the_head_begins_anew_for_other_classes(
    write_model: Callable[..., Path],
) -> None:
    path = write_model() / WEIGHTS_FILE
    given = load_file(path)
    same = segpipe.build_model("unet", 3, weights=path, **OPTIONS).state_dict()
    assert all(torch.equal(same[name], given[name]) for name in given)
    other = segpipe.build_model("unet", 4, weights=str(path), **OPTIONS).state_dict()
    differ = {name for name in given if other[name].shape != given[name].shape}
    assert differ and all(torch.equal(other[name], given[name]) for name in given.keys() - differ)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"name": "unett", "num_classes": 3}, ["unett", "'unet'"]),
        ({"name": "unet", "num_classes": 3, "widht": 4}, ["widht", "width"]),
        ({"name": "unet", "num_classes": 3, "width": "4"}, ["width", "integer"]),
        ({"name": "unet", "num_classes": 0}, ["num_classes", "0"]),
        ({"name": "unet", "num_classes": 256}, ["num_classes", "255"]),
        ({"name": "unet", "num_classes": 3, "in_channels": 2}, ["in_channels", "2"]),
        ({"name": "unet", "num_classes": 3, "pretrained": True}, ["unet", "ImageNet"]),
        ({"name": "unet", "num_classes": 3, "pretrained": True, "weights": "a.pth"}, ["pretrained", "weights"]),
        ({"name": "unet", "num_classes": 3, "weights": "absent.pth"}, ["absent.pth", "No such file"]),
        ({"name": "unet", "num_classes": 3, "weights": "models:/streets"}, ["models:/streets", "models:/NAME@ALIAS"]),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(segpipe.SegpipeError) as caught:
        segpipe.build_model(**arguments)
    assert not [fact for fact in facts if fact not in str(caught.value)], str(caught.value)


def test_weights_of_another_model_are_refused(write_model: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="another model"):
        segpipe.build_model("unet", 3, weights=write_model() / WEIGHTS_FILE, width=8, depth=2)
