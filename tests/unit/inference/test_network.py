"""How a network is built, and the way of its weights from disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from segpipe.classes import ClassTable
from segpipe.cli import main
from segpipe.config.evaluate import Inference
from segpipe.documents import ImageMapping
from segpipe.errors import ConfigError, StoreError
from segpipe.files import sha256_of_file
from segpipe.inference.logits import to_input
from segpipe.inference.network import Network, build_network, list_differences
from segpipe.inference.predictor import AS_TRAINED, Predictor
from segpipe.models import list_models, read_card
from segpipe.places import INFERENCE_FILE, MODEL_FILE, WEIGHTS_FILE

CPU = torch.device("cpu")
OPTIONS = {"unet": {"width": 2, "depth": 2}, "compact_fpn": {"width": 8, "pyramid_width": 8}}

# The starter's, the largest receptive field and the smallest: what is asked of every model is in its contract.
NETWORKS = ["compact_fpn", "lraspp_mobilenet_v3_large", "unet"]


def _options_of(name: str) -> dict[str, Any]:
    return dict(OPTIONS.get(name, read_card(name).small))


@pytest.fixture
def write_network(tmp_path: Path, classes: ClassTable) -> Callable[..., Path]:
    """Writes an untrained network as a training would."""

    def write(name: str = "unet", in_channels: int = 3, **changes: Any) -> Path:
        options = _options_of(name)
        torch.manual_seed(0)
        module = build_network(name, options, classes.num_classes, in_channels)
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, tmp_path / WEIGHTS_FILE)
        document = {
            "model": {"name": name, "options": options, "in_channels": in_channels},
            "classes": classes.to_json(),
            "weights_sha256": sha256_of_file(tmp_path / WEIGHTS_FILE),
        }
        (tmp_path / MODEL_FILE).write_text(json.dumps(document | changes))
        return tmp_path

    return write


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_a_network_is_built_in_channels_last() -> None:
    network = build_network("unet", OPTIONS["unet"], 3)
    assert network.first[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index,union-attr]
    with pytest.raises(ConfigError, match="unknown model"):
        build_network("unett", {}, 3)


def test_one_channel_sees_the_mean_of_the_colours() -> None:
    network = build_network("unet", OPTIONS["unet"], 3, in_channels=1).eval()
    assert network.first[0].weight.shape[1] == 1  # type: ignore[index,union-attr]
    images_NCHW = torch.randn(2, 3, 33, 40)
    grey_NCHW = images_NCHW.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        torch.testing.assert_close(network(images_NCHW), network(grey_NCHW))
    # By name the parameters are those of a network of three channels, of which only the first layer has another shape.
    colour = build_network("unet", OPTIONS["unet"], 3).state_dict()
    assert list_differences(colour, network.state_dict()) == (
        "  first.0.weight: (2, 1, 3, 3) where the network has (2, 3, 3, 3)"
    )


def test_only_models_with_an_encoder_are_asked_for_their_weights_from_imagenet() -> None:
    with pytest.raises(ConfigError, match=r"model 'unet' has no weights from ImageNet \(train.model.weights\); models"):
        build_network("unet", OPTIONS["unet"], 3, is_pretrained=True)


def test_differences_are_told_by_name_and_shape() -> None:
    wanted = {"a": torch.zeros(2, 3), "b": torch.zeros(1), "c": torch.zeros(4)}
    found = {"a": torch.zeros(3, 3), "c": torch.zeros(4), "d": torch.zeros(())}
    assert list_differences(wanted, wanted) == ""
    assert list_differences(wanted, found).splitlines() == [
        "  missing: b (1,)",
        "  not in the network: d ()",
        "  a: (3, 3) where the network has (2, 3)",
    ]
    many = {str(number): torch.zeros(1) for number in range(100)}
    assert list_differences(many, {}).splitlines()[-1] == "  and 60 more"


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_network_of_grey_images_comes_back_as_one(write_network: Callable[..., Path], in_channels: int) -> None:
    network = Network.load(write_network(in_channels=in_channels), CPU)
    torch.manual_seed(0)
    module = build_network("unet", OPTIONS["unet"], 3, in_channels).eval()
    images = _images(2, 33, 47, 3)
    np.testing.assert_array_equal(network.predict(images), Predictor(module).predict_masks(images))


def test_a_description_of_before_there_were_channels_has_three(write_network: Callable[..., Path]) -> None:
    folder = write_network(model={"name": "unet", "options": OPTIONS["unet"]})
    assert Network.load(folder, CPU).module.state_dict()["first.0.weight"].shape[1] == 3


def test_the_way_to_read_images_comes_back(write_network: Callable[..., Path]) -> None:
    stated = {"bands": [4, 3, 2], "range": [0, 4095.0], "percentiles": None, "background": [0, 0, 0]}
    network = Network.load(write_network(image_mapping=stated), CPU)
    assert network.image_mapping == ImageMapping((4, 3, 2), (0.0, 4095.0), None, (0, 0, 0))
    assert Network.load(write_network(), CPU).image_mapping == ImageMapping(None, None, None, None)


def test_load_brings_back_what_was_saved(write_network: Callable[..., Path], classes: ClassTable) -> None:
    folder = write_network()
    network = Network.load(folder, CPU)
    assert network.classes == classes
    assert network.weights_sha256 == sha256_of_file(folder / WEIGHTS_FILE)
    assert not network.module.training
    torch.manual_seed(0)
    module = build_network("unet", OPTIONS["unet"], 3).eval()
    images = _images(2, 33, 47, 3)
    with torch.inference_mode():
        expected = module(to_input(images, CPU)).argmax(dim=1).numpy()
    np.testing.assert_array_equal(network.predict(images), expected)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 40), (32, 200), (9, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_predict_takes_any_size(write_network: Callable[..., Path], name: str, size: tuple[int, int]) -> None:
    masks = Network.load(write_network(name), CPU).predict(_images(2, *size, 3))
    assert (masks.shape, masks.dtype) == ((2, *size), np.uint8)
    assert masks.max() < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@torch.inference_mode()
def test_every_model_of_the_zoo_predicts_small_images(name: str) -> None:
    """The contract has sizes from 32 px up; FC-DenseNet, which halves without rounding up, can do no less."""
    network = build_network(name, _options_of(name), 3).eval()
    sizes = [(33, 40)] if name.startswith("fc_densenet") else [(33, 40), (9, 5), (1, 1)]
    for size in sizes:
        assert Predictor(network).predict_masks(_images(2, *size, 3)).shape == (2, *size)


def test_load_refuses_changed_weights(write_network: Callable[..., Path]) -> None:
    folder = write_network()
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(StoreError, match=r"weights.safetensors: its sha256 is not the one in model.json"):
        Network.load(folder, CPU)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, MODEL_FILE])
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
        {"model": "unet"},
        {"model": {"name": "gone", "options": {}}},
        {"classes": {"names": ["a"], "colors": [[0, 0, 0]], "void": [255]}},
    ],
    ids=["another width", "no options", "no description", "no such model", "fewer classes"],
)
def test_load_refuses_a_description_that_does_not_fit(
    write_network: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises((StoreError, ConfigError)):
        Network.load(write_network(**changes), CPU)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model": {"name": "unet", "options": {"width": 4, "depth": 2}}}, "first.0.weight: (2, 3, 3, 3) where "),
        ({"model": {"name": "unet", "options": OPTIONS["unet"], "in_channels": 1}}, "first.0.weight: (2, 3, 3, 3) "),
        ({"model": {"name": "compact_fpn", "options": OPTIONS["compact_fpn"]}}, "missing: stem.0.0.weight (16, 3, 3, "),
        (
            {"classes": ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1))).to_json()},
            "head.weight: (3, 2, 1, 1) where the network has (2, 2, 1, 1)",
        ),
    ],
    ids=["another width", "grey", "another model", "fewer classes"],
)
def test_predict_says_what_weights_of_another_model_have_else(
    write_network: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    line: str,
) -> None:
    folder = write_network(**changes)
    (tmp_path / "images").mkdir()
    Image.fromarray(_images(40, 40, 3)).save(tmp_path / "images/a.png")
    arguments = [str(tmp_path / "images"), "--output", str(tmp_path / "out"), "--model", str(folder)]
    assert main(["predict", *arguments, "--device", "cpu"]) == 1
    message = capsys.readouterr().err
    assert f"segpipe: {folder / WEIGHTS_FILE}: is not from the model in model.json (" in message
    assert any(told.startswith(f"  {line}") for told in message.splitlines())
    assert message.splitlines()[-1] == "Run `dvc repro train`, or predict with the code that trained it"


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_load_refuses_what_is_no_description(write_network: Callable[..., Path], content: str) -> None:
    folder = write_network()
    (folder / MODEL_FILE).write_text(content)
    with pytest.raises(StoreError, match="holds no usable model"):
        Network.load(folder, CPU)


def test_load_refuses_what_are_no_weights(write_network: Callable[..., Path]) -> None:
    folder = write_network()
    (folder / WEIGHTS_FILE).write_bytes(b"pickle")
    document = json.loads((folder / MODEL_FILE).read_text())
    document["weights_sha256"] = sha256_of_file(folder / WEIGHTS_FILE)
    (folder / MODEL_FILE).write_text(json.dumps(document))
    with pytest.raises(StoreError, match="holds no usable model"):
        Network.load(folder, CPU)


def test_a_model_predicts_as_the_file_next_to_it_says(write_network: Callable[..., Path]) -> None:
    folder = write_network()
    assert Network.load(folder, CPU).inference == AS_TRAINED
    wanted = Inference(flip=True, scales=[0.5, 1.0])
    (folder / INFERENCE_FILE).write_text(wanted.model_dump_json(), encoding="utf-8")
    network = Network.load(folder, CPU)
    assert network.inference == wanted
    images = _images(1, 33, 47, 3)
    expected = Predictor(network.module, wanted).predict_masks(images)
    np.testing.assert_array_equal(network.predict(images), expected)
    assert (Predictor(network.module).predict_masks(images) != expected).any()


@pytest.mark.parametrize("content", ["{", '{"flip": "yes"}', '{"window_px": 3}'])
def test_a_damaged_file_of_inference_is_named(write_network: Callable[..., Path], content: str) -> None:
    folder = write_network()
    (folder / INFERENCE_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=INFERENCE_FILE):
        Network.load(folder, CPU)
