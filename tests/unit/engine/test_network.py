"""The way of pixels into a network, and the way of its weights from disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segpipe.classes import ClassTable
from segpipe.engine.network import DESCRIPTION, MEAN_RGB, STD_RGB, WEIGHTS, Network, build_network, to_input
from segpipe.errors import ConfigError, StoreError
from segpipe.files import sha256_of_file
from segpipe.models import list_models

CPU = torch.device("cpu")
OPTIONS = {"unet": {"width": 2, "depth": 2}, "compact_fpn": {"width": 8, "pyramid_width": 8}}


@pytest.fixture
def write_network(tmp_path: Path, classes: ClassTable) -> Callable[..., Path]:
    """Writes an untrained network as a training would."""

    def write(name: str = "unet", **changes: Any) -> Path:
        options = OPTIONS.get(name, {})
        torch.manual_seed(0)
        module = build_network(name, options, classes.num_classes)
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, tmp_path / WEIGHTS)
        document = {
            "model": {"name": name, "options": options},
            "classes": classes.to_json(),
            "weights_sha256": sha256_of_file(tmp_path / WEIGHTS),
        }
        (tmp_path / DESCRIPTION).write_text(json.dumps(document | changes))
        return tmp_path

    return write


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_to_input_normalises() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 1, 1] = 255
    tensor = to_input(images, CPU)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 2, 2), torch.float32)
    for channel in range(3):
        assert float(tensor[0, channel, 0, 0]) == pytest.approx(-MEAN_RGB[channel] / STD_RGB[channel])
        assert float(tensor[0, channel, 1, 1]) == pytest.approx((255 - MEAN_RGB[channel]) / STD_RGB[channel])


def test_to_input_is_channels_last_and_leaves_the_images_alone() -> None:
    images = _images(2, 5, 7, 3)
    images.flags.writeable = False  # as a memory map is
    before = images.copy()
    assert to_input(images, CPU).is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(images, before)


def test_a_network_is_built_in_channels_last() -> None:
    network = build_network("unet", OPTIONS["unet"], 3)
    assert network.first[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index,union-attr]
    with pytest.raises(ConfigError, match="unknown model"):
        build_network("unett", {}, 3)


def test_load_brings_back_what_was_saved(write_network: Callable[..., Path], classes: ClassTable) -> None:
    folder = write_network()
    network = Network.load(folder, CPU)
    assert network.classes == classes
    assert network.weights_sha256 == sha256_of_file(folder / WEIGHTS)
    assert not network.module.training
    torch.manual_seed(0)
    module = build_network("unet", OPTIONS["unet"], 3).eval()
    images = _images(2, 33, 47, 3)
    with torch.inference_mode():
        expected = module(to_input(images, CPU)).argmax(dim=1).numpy()
    np.testing.assert_array_equal(network.predict(images), expected)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 40), (32, 200), (9, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("name", list_models())
def test_predict_takes_any_size(write_network: Callable[..., Path], name: str, size: tuple[int, int]) -> None:
    masks = Network.load(write_network(name), CPU).predict(_images(2, *size, 3))
    assert (masks.shape, masks.dtype) == ((2, *size), np.uint8)
    assert masks.max() < 3


def test_load_refuses_changed_weights(write_network: Callable[..., Path]) -> None:
    folder = write_network()
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(StoreError, match=r"weights.safetensors: is not what model.json describes \(sha256\)"):
        Network.load(folder, CPU)


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_load_names_a_missing_file(write_network: Callable[..., Path], name: str) -> None:
    folder = write_network()
    (folder / name).unlink()
    with pytest.raises(StoreError, match=f"holds no usable model: .*{name}.*; run `dvc repro train`"):
        Network.load(folder, CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "unet", "options": {"width": 4, "depth": 2}}},
        {"model": {"name": "unet"}},
        {"model": {"name": "gone", "options": {}}},
        {"classes": {"names": ["a"], "colors": [[0, 0, 0]], "void": [255]}},
    ],
    ids=["another width", "no options", "no such model", "fewer classes"],
)
def test_load_refuses_a_description_that_does_not_fit(
    write_network: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises((StoreError, ConfigError)):
        Network.load(write_network(**changes), CPU)


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_load_refuses_what_is_no_description(write_network: Callable[..., Path], content: str) -> None:
    folder = write_network()
    (folder / DESCRIPTION).write_text(content)
    with pytest.raises(StoreError, match="holds no usable model"):
        Network.load(folder, CPU)


def test_load_refuses_what_are_no_weights(write_network: Callable[..., Path]) -> None:
    folder = write_network()
    (folder / WEIGHTS).write_bytes(b"pickle")
    document = json.loads((folder / DESCRIPTION).read_text())
    document["weights_sha256"] = sha256_of_file(folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps(document))
    with pytest.raises(StoreError, match="holds no usable model"):
        Network.load(folder, CPU)
