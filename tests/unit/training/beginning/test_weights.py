"""What a training begins with: from which files, fitted how, and what is said of weights that do not fit."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mobilenet_v3_large

from segpipe.config.train import ModelChoice
from segpipe.errors import ConfigError
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.training.beginning import weights as weights_module
from segpipe.training.beginning.foreign_weights import WRAPPERS, read_weights
from segpipe.training.beginning.weights import Given, InitialWeights, fit_weights, make_network

CLASSES = ("road", "car", "sky")
OPTIONS = {"width": 2, "depth": 1}
FIRST, HEAD = "first.0.weight", {"head.weight", "head.bias"}
REGISTERED = "models:/streets@champion"
IMAGENET = "lraspp_mobilenet_v3_large"
IMAGENET_FILE = "mobilenet_v3_large-8738ca79.pth"


def _network(num_classes: int = len(CLASSES), in_channels: int = 3, seed: int = 1, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_network("unet", OPTIONS | options, num_classes, in_channels)


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}


def _choice(weights: Path | str, **changes: Any) -> ModelChoice:
    sha256 = {"sha256": sha256_of_file(weights)} if isinstance(weights, Path) else {}
    document = {"name": "unet", "options": OPTIONS, "weights": str(weights)} | sha256 | changes
    return ModelChoice.model_validate(document)


def _fetch_nothing(address: str) -> Given:
    raise AssertionError(f"{address} was asked for")


def _make(choice: ModelChoice, fetch: Callable[[str], Given] = _fetch_nothing) -> tuple[nn.Module, InitialWeights]:
    torch.manual_seed(2)
    network, _, initial = make_network(choice, CLASSES, fetch)
    return network, initial


def _refusal(choice: ModelChoice, fetch: Callable[[str], Given] = _fetch_nothing) -> str:
    with pytest.raises(ConfigError) as caught:
        _make(choice, fetch)
    return str(caught.value)


def _differing(network: nn.Module, state: Mapping[str, torch.Tensor]) -> set[str]:
    found = network.state_dict()
    assert found.keys() == state.keys()
    return {name for name in state if not torch.equal(found[name], state[name])}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes weights into a file by its kind."""

    def save(state: Mapping[str, torch.Tensor], name: str = "weights.safetensors") -> Path:
        file = tmp_path / name
        if file.suffix == ".safetensors":
            save_file(dict(state), file)
        else:
            torch.save(dict(state), file)
        return file

    return save


# Files


def test_without_weights_it_is_a_random_network() -> None:
    network, initial = _make(_choice("none"))
    assert initial == InitialWeights("none", None, None)
    assert not _differing(network, _network(seed=2).state_dict())


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_gives_its_weights(save: Callable[..., Path], name: str) -> None:
    state = _state(_network())
    file = save(state, name)
    network, initial = _make(_choice(file))
    assert initial == InitialWeights(str(file), None, sha256_of_file(file))
    assert not _differing(network, state)
    assert network.get_parameter("first.0.weight").is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("key", WRAPPERS)
def test_tensors_are_found_beside_an_optimiser(tmp_path: Path, key: str) -> None:
    state = _state(_network())
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, key: state}, tmp_path / "weights.pth")
    assert not _differing(_make(_choice(tmp_path / "weights.pth"))[0], state)


def test_weights_of_sixteen_bits_become_weights_of_32(save: Callable[..., Path]) -> None:
    state = {name: tensor.half() for name, tensor in _state(_network()).items()}
    network, _ = _make(_choice(save(state)))
    assert network.get_parameter(FIRST).dtype == torch.float32
    assert torch.equal(network.get_parameter(FIRST), state[FIRST].float())


def test_another_content_than_its_sha256_is_refused(save: Callable[..., Path]) -> None:
    file = save(_state(_network()))
    found = sha256_of_file(file)
    assert (
        _refusal(_choice(file, sha256="0" * 64)) == f"train.model.sha256: {file} has the sha256 {found}, not {'0' * 64}"
    )


@pytest.mark.parametrize(("name", "what"), [("gone.pth", "No such file or directory"), (".", "Is a directory")])
def test_what_is_no_file_is_named(tmp_path: Path, name: str, what: str) -> None:
    file = tmp_path / name
    assert _refusal(_choice(str(file), sha256="0" * 64)) == f"train.model.weights: {file}: {what}"


class _Code:
    """Pickled code: it would write a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    file, marker = tmp_path / "weights.pth", tmp_path / "executed"
    torch.save({"state_dict": _state(_network()), "extra": _Code(marker)}, file)
    message = _refusal(_choice(file))
    assert not marker.exists()
    assert message.startswith(f"train.model.weights: {file}: is damaged, or holds more than tensors")
    assert "weights_only" not in message  # torch's advice, which would execute it
    torch.load(file, weights_only=False)
    assert marker.exists()  # as it would have been


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("empty.safetensors", b""),
        ("page.pth", b"<html>Not found</html>"),
        ("page.safetensors", b"<html>Not found</html>"),
        ("number.pth", pickle.dumps(3, protocol=2)),
        ("cut.pth", b"\x80\x02}q\x00X\x05"),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert _refusal(_choice(tmp_path / name)).startswith(f"train.model.weights: {tmp_path / name}: ")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "old.pth"])
def test_a_file_that_is_cut_off_is_named(save: Callable[..., Path], name: str) -> None:
    state = _state(_network())
    file = save(state, name)
    if name == "old.pth":  # torch's format of before 1.6, in which many models still lie
        torch.save(state, file, _use_new_zipfile_serialization=False)
        assert read_weights(file).keys() == state.keys()
    content = file.read_bytes()
    for share in (0.02, 0.1, 0.5, 0.9):
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ConfigError, match=r"train.model.weights: "):
            read_weights(file)


@pytest.mark.parametrize(
    "document", [torch.zeros(3), {}, {"a": 1}, {0: torch.zeros(1)}, [torch.zeros(1)], {"state_dict": {}}], ids=str
)
def test_what_is_no_table_of_tensors_is_named(tmp_path: Path, document: object) -> None:
    torch.save(document, tmp_path / "weights.pth")
    assert _refusal(_choice(tmp_path / "weights.pth")).endswith("holds no tensors by name (a state_dict)")


# Other models and classes


def test_other_options_are_told_tensor_by_tensor(save: Callable[..., Path]) -> None:
    message = _refusal(_choice(save(_state(_network(width=3)))))
    first, *lines = message.splitlines()
    assert first.endswith(" is from another model, or has other options:")
    assert "  first.0.weight: (3, 3, 3, 3) where the network has (2, 3, 3, 3)" in lines
    assert not any("head" in line and "where" not in line for line in lines)


def test_another_model_is_told_by_its_names_and_not_endlessly(save: Callable[..., Path]) -> None:
    torch.manual_seed(1)
    state = _state(build_network("compact_fpn", {"width": 8, "pyramid_width": 8}, len(CLASSES)))
    lines = _refusal(_choice(save(state))).splitlines()
    assert "  missing: first.0.weight (2, 3, 3, 3)" in lines
    assert len(lines) == 42
    assert lines[-1].startswith("  and ")
    state = {"trunk.weight": torch.zeros(2, 3)}
    assert "  not in the network: trunk.weight (2, 3)" in _refusal(_choice(save(state))).splitlines()[-1]


def test_another_number_of_classes_gets_a_new_head(save: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    state = _state(_network(num_classes=5))
    with caplog.at_level(logging.INFO):
        network, _ = _make(_choice(save(state)))
    fresh = _network(seed=2).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, fresh[name] if name in HEAD else state[name]), name
    assert "its classes differ: the head begins with random weights (head.bias, head.weight)" in caplog.text


def test_auxiliary_heads_begin_anew_too(save: Callable[..., Path]) -> None:
    options = {"depth": 2, "deep_supervision": True}
    state = _state(_network(num_classes=5, **options))
    network, _ = _make(_choice(save(state), options=OPTIONS | options))
    differing = {name for name, tensor in network.state_dict().items() if tensor.shape != state[name].shape}
    assert differing == HEAD | {name for name in state if name.startswith("auxiliary.")} != HEAD


def test_weights_without_a_head_get_one(save: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    state = {name: tensor for name, tensor in _state(_network()).items() if name not in HEAD}
    with caplog.at_level(logging.INFO):
        network, _ = _make(_choice(save(state)))
    fresh = _network(seed=2).state_dict()
    assert not _differing(network, state | {name: fresh[name] for name in HEAD})
    assert "has no head: the head begins with random weights (head.bias, head.weight)" in caplog.text


@pytest.mark.parametrize(
    ("class_names", "is_new"), [(CLASSES, False), (("road", "van", "sky"), True), (("car", "road", "sky"), True)]
)
def test_a_registered_models_head_is_kept_where_the_classes_are_the_same(
    save: Callable[..., Path], class_names: tuple[str, ...], is_new: bool
) -> None:
    state = _state(_network())
    file = save(state)
    asked = []

    def fetch(address: str) -> Given:
        asked.append(address)
        return Given(file, class_names, "7")

    network, initial = _make(_choice(REGISTERED), fetch)
    assert asked == [REGISTERED]
    assert initial == InitialWeights(REGISTERED, "7", sha256_of_file(file))
    assert bool(_differing(network, state)) is is_new
    assert _differing(network, state) <= HEAD


# First layers


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([1.0, 2.0, 4.0], [7.0]),
        ([1.0, 2.0, 4.0], [0.5, 2.0, 4.0, 0.5]),
        ([1.0, 2.0, 4.0], [0.5, 1.0, 4.0, 0.5, 1.0]),
        ([6.0], [2.0, 2.0, 2.0]),
        ([1.0, 2.0, 4.0, 8.0], [9.0, 2.0, 4.0]),
        ([1.0, 2.0], [1.0, 2.0]),
    ],
    ids=str,
)
def test_channels_by_hand(found: list[float], wanted: list[float]) -> None:
    def build(num_classes: int = 1, in_channels: int = len(wanted)) -> nn.Module:
        return nn.Sequential(nn.Conv2d(in_channels, 1, 1), nn.Conv2d(1, num_classes, 1))

    network, source = build(), build(in_channels=len(found)).state_dict()
    source["0.weight"] = torch.tensor(found).view(1, -1, 1, 1)
    fit_weights(network, source, build, "file", is_same_head=True)
    assert network.state_dict()["0.weight"].flatten().tolist() == wanted
    assert sum(wanted) == sum(found)


@pytest.mark.parametrize(("found", "wanted"), [(3, 1), (1, 3), (3, 4), (4, 3), (4, 1), (1, 5)])
@torch.inference_mode()
def test_an_image_of_equal_channels_gives_what_it_gave(
    save: Callable[..., Path], caplog: pytest.LogCaptureFixture, found: int, wanted: int
) -> None:
    source, network = _network(in_channels=found).eval(), _network(in_channels=wanted, seed=2).eval()
    for part in (source, network):
        part._forward_pre_hooks.clear()  # the mean of the colours, which is another test's
    with caplog.at_level(logging.INFO):
        fit_weights(
            network,
            source.state_dict(),
            lambda num_classes=3, in_channels=wanted: _network(num_classes, in_channels),
            "file",
            is_same_head=True,
        )
    grey_NCHW = torch.randn(2, 1, 33, 40)
    expected_NCHW = source(grey_NCHW.expand(-1, found, -1, -1))
    torch.testing.assert_close(network(grey_NCHW.expand(-1, wanted, -1, -1)), expected_NCHW, rtol=1e-4, atol=1e-5)
    assert f"file: the first layer was adapted to {wanted} channels" in caplog.text


@torch.inference_mode()
def test_a_grey_training_goes_on_from_one_in_colour(save: Callable[..., Path]) -> None:
    source = _network().eval()
    network, _ = _make(_choice(save(_state(source)), in_channels=1))
    network.eval()
    assert network.get_parameter(FIRST).shape[1] == 1
    grey_NCHW = torch.randn(2, 1, 33, 40).expand(-1, 3, -1, -1)
    torch.testing.assert_close(network(grey_NCHW), source(grey_NCHW), rtol=1e-4, atol=1e-5)


def test_a_norm_of_the_image_is_not_taken_for_a_layer_of_channels() -> None:
    def build(num_classes: int = 2, in_channels: int = 3) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(in_channels), nn.Conv2d(in_channels, num_classes, 1))

    network, source = build(), build()
    fit_weights(network, source.state_dict(), build, "file", is_same_head=True)
    assert not _differing(network, source.state_dict())
    with pytest.raises(ConfigError, match=r"0.weight: \(4,\) where the network has \(3,\)"):
        fit_weights(network, build(in_channels=4).state_dict(), build, "file", is_same_head=True)


def test_a_vector_is_not_taken_for_a_layer_of_channels() -> None:
    def build(num_classes: int = 1, in_channels: int = 3) -> nn.Module:
        return nn.Sequential(nn.Linear(in_channels, 2, bias=False), nn.Linear(2, num_classes, bias=False))

    source = build().state_dict() | {"0.weight": torch.zeros(2)}
    with pytest.raises(ConfigError, match=r"0.weight: \(2,\) where the network has \(2, 3\)"):
        fit_weights(build(), source, build, "file", is_same_head=True)


# ImageNet


def test_a_model_without_weights_from_imagenet_is_named() -> None:
    message = _refusal(_choice("imagenet"))
    assert message.startswith("model 'unet' has no weights from ImageNet (train.model.weights); models that do: ")
    assert IMAGENET in message


@pytest.fixture
def downloader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder of downloads, empty, on a machine whose network has no name server."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_a_failed_download_says_how_to_go_on(downloader: Path) -> None:
    message = _refusal(_choice("imagenet", name=IMAGENET, options={}))
    first, second = message.splitlines()
    assert first == (
        f"the weights from ImageNet for model {IMAGENET!r} cannot be downloaded: <urlopen error [Errno -2] Name or "
        "service not known>"
    )
    assert second.startswith("To train without a network, ")
    assert all(part in second for part in ("TORCH_HOME", "HF_HOME", "HF_HUB_OFFLINE=1", "weights: none"))


def test_a_file_in_the_librarys_folder_needs_no_network(downloader: Path) -> None:
    torch.manual_seed(3)
    published = mobilenet_v3_large().state_dict()
    torch.save(published, downloader / IMAGENET_FILE)
    networks = []
    for in_channels in (3, 1):
        network, initial = _make(_choice("imagenet", name=IMAGENET, options={}, in_channels=in_channels))
        networks.append((_state(network), initial))
    (colour, initial), (grey, again) = networks
    assert initial == again
    assert (initial.source, initial.version, len(initial.sha256 or "")) == ("imagenet", None, 64)
    found = {name: tensor for name, tensor in colour.items() if name.startswith("encoder.")}
    of_published = [tensor for name, tensor in published.items() if name.startswith("features.")]
    assert len(found) == len(of_published)
    assert all(torch.equal(*pair) for pair in zip(found.values(), of_published, strict=True))
    (first,) = {name for name in colour if colour[name].shape != grey[name].shape}
    torch.testing.assert_close(grey[first], colour[first].sum(dim=1, keepdim=True))
    assert all(torch.equal(grey[name], colour[name]) for name in found if name != first)


def test_a_damaged_file_in_the_librarys_folder_is_named(downloader: Path) -> None:
    (downloader / IMAGENET_FILE).write_bytes(b"<html>Not found</html>")
    message = _refusal(_choice("imagenet", name=IMAGENET, options={}))
    assert message.startswith(f"the weights from ImageNet for model {IMAGENET!r} are damaged: invalid load key")
    assert "delete the library's copy" in message


class ConnectError(Exception):
    """As an HTTP client's own: no OSError."""

    __module__ = "httpx2"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        # What timm and smp raise, by way of Hugging Face's library.
        (LocalEntryNotFoundError("cannot find the requested files in the local cache"), "cannot be downloaded"),
        (ConnectError("Name or service not known"), "cannot be downloaded"),
        (TimeoutError("timed out"), "cannot be downloaded"),
        (RuntimeError('invalid hash value (expected "8738ca79", got "0")'), "are damaged"),
        (RuntimeError("PytorchStreamReader failed reading zip archive"), "are damaged"),
        (EOFError("Ran out of input"), "are damaged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_librarys_way_of_failing_is_understood(monkeypatch: pytest.MonkeyPatch, error: Exception, what: str) -> None:
    _fail_with(monkeypatch, error)
    message = _refusal(_choice("imagenet", name=IMAGENET, options={}))
    assert message.startswith(f"the weights from ImageNet for model {IMAGENET!r} {what}: {error}\n")


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(monkeypatch, RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        _make(_choice("imagenet", name=IMAGENET, options={}))


def test_a_wrong_option_is_told_before_anything_is_downloaded(downloader: Path) -> None:
    message = _refusal(_choice("imagenet", name=IMAGENET, options={"momentum": 0.1}))
    assert message.startswith(f"model {IMAGENET!r}: option momentum: unknown; ")


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: Any, is_pretrained: bool = False) -> nn.Module:
        if is_pretrained:
            raise error
        return build_network(*arguments)

    monkeypatch.setattr(weights_module, "build_network", fail)
