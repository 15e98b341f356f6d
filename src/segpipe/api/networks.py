"""Networks that are to be trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from segpipe.choices import MODELS
from segpipe.classes import MAX_NUM_CLASSES
from segpipe.config.reading import validate
from segpipe.config.train import REGISTERED, ModelChoice
from segpipe.documents import NetworkDescription
from segpipe.errors import ConfigError, StoreError
from segpipe.files import sha256_of_file
from segpipe.places import MODEL_FILE, WEIGHTS_FILE
from segpipe.registry.addresses import FoundModel, as_before, find_model
from segpipe.training.beginning.weights import Given, make_network


def build_model(
    name: str,
    num_classes: int,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Builds a network that is to be trained, as `train.model` of `params.yaml` would.

    Args:
        name: of a model; `segpipe models` lists them, docs/models.md compares them.
        num_classes: channels of the logits, 1..255.
        pretrained: loads the encoder's weights from ImageNet, and downloads them if they are not on this machine.
        weights: instead, the weights to begin with: a file (.safetensors, or .pth that holds only tensors), or
            `models:/NAME@ALIAS` or `models:/NAME/VERSION`. The head begins with random weights if the number of classes
            differs.
        options: of the model (`segpipe models NAME`), and `in_channels`: 3, or 1 for networks of grey images, whose
            input is RGB too.

    Returns:
        The network in training mode and channels-last layout. Its input is (N, 3, H, W) float32, normalised by
        ImageNet's mean and standard deviation. In evaluation mode it gives logits (N, num_classes, H, W) float32; in
        training mode it may give a tuple, these logits first, then those of auxiliary heads.

    Raises:
        ConfigError: the name or an option is unknown, or the weights do not fit; says what would fit.

    Examples:
        >>> import segpipe, torch
        >>> network = segpipe.build_model("unet", num_classes=3, width=4, depth=2).eval()
        >>> network(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 3, 64, 96])
    """
    MODELS.check(name)
    if type(num_classes) is not int or not 1 <= num_classes <= MAX_NUM_CLASSES:
        raise ConfigError(f"num_classes: must be an integer of 1..{MAX_NUM_CLASSES} (got {num_classes!r})")
    if pretrained and weights is not None:
        raise ConfigError("build_model: give pretrained=True or weights=..., not both")
    document: dict[str, Any] = {"name": name, "in_channels": options.pop("in_channels", 3), "options": options}
    if weights is None:
        return _make(document | {"weights": "imagenet" if pretrained else "none"}, num_classes)
    if not str(weights).startswith(REGISTERED):
        return _make(document | {"weights": str(weights), "sha256": _sha256_of(Path(weights))}, num_classes)
    with as_before(), find_model(str(weights)) as files:
        return _make(document | {"weights": str(weights)}, num_classes, files)


def _make(document: Mapping[str, Any], num_classes: int, files: FoundModel | None = None) -> nn.Module:
    """Builds a network from the content of `train.model`; `files` are those of a registered model."""

    def fetch(address: str) -> Given:
        assert files is not None
        return _read_given(files)

    choice = validate(ModelChoice, document, "build_model: ")
    names = tuple(str(index) for index in range(num_classes))
    return make_network(choice, names, fetch)[0]


def _read_given(files: FoundModel) -> Given:
    description = NetworkDescription.read(files.folder / MODEL_FILE, "take another version")
    path = files.folder / WEIGHTS_FILE
    if _sha256_of(path) != description.weights_sha256:
        raise StoreError(f"{path}: its sha256 is not the one in {MODEL_FILE}; take another version")
    return Given(path, None, files.version, description.model)


def _sha256_of(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise ConfigError(
            f"weights: {path}: {error.strerror or error}; give a file or the address of a registered model"
        ) from error
