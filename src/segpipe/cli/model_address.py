"""The models that commands take: the champion, a version of the registry, or a folder."""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segpipe.config.params import load_config
from segpipe.config.reading import PARAMS_FILE
from segpipe.config.train import REGISTERED
from segpipe.errors import PredictionError

CHAMPION = "champion"
TRACKING = "MLFLOW_TRACKING_URI"
MODELS_TAKEN = f"{CHAMPION}, {REGISTERED}NAME@ALIAS, {REGISTERED}NAME/VERSION, or the folder of a trained model"


@dataclass(frozen=True)
class FoundModel:
    """A model's files on this machine.

    Attributes:
        folder: holds `model.json` and `weights.safetensors`.
        title: for messages.
        name: of the registered model; None for a folder's.
        version: its number there; None for a folder's.
    """

    folder: Path
    title: str
    name: str | None = None
    version: str | None = None


def add_registry_option(command: argparse.ArgumentParser) -> None:
    """Adds `--registry`, for commands that take a model."""
    command.add_argument(
        "--registry", metavar="ADDRESS", help=f"address of MLflow; default: {TRACKING}, or the project's own store"
    )


@contextlib.contextmanager
def find_model(address: str, registry: str | None) -> Iterator[FoundModel]:
    """Gives a model's files; those of a registered one are downloaded to a temporary folder.

    Args:
        address: `champion`, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or a folder.
        registry: address of MLflow; None for the one of the environment, or the project's own store.

    Raises:
        TrackingError: there is no such model, or MLflow cannot be reached.
        PredictionError: `champion`, and nothing says of which registered model.
    """
    if address != CHAMPION and not address.startswith(REGISTERED):
        yield FoundModel(Path(address), address)
        return
    if registry:
        os.environ[TRACKING] = registry
    # What MLflow prints goes to standard error, because standard output is for our lines.
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            found = _download_champion(Path(folder)) if address == CHAMPION else _download(address, Path(folder))
        yield found


def _download(address: str, folder: Path) -> FoundModel:
    from segpipe.tracking.registered import fetch_address

    version, files = fetch_address(address, folder)
    name = address.removeprefix(REGISTERED).partition("@")[0].partition("/")[0]
    return FoundModel(files, f"{address} (version {version})", name, version)


def _download_champion(folder: Path) -> FoundModel:
    from segpipe.registry.champion import fetch_champion, find_only_champion
    from segpipe.tracking.client import connect

    if PARAMS_FILE.exists():
        name = load_config().register_.model_name
    elif os.environ.get(TRACKING):
        name = find_only_champion(connect())
    else:
        raise PredictionError(
            f"there is no {PARAMS_FILE} here that names a model; name the registry by --registry ADDRESS or "
            f"{TRACKING}, or give a folder instead of {CHAMPION}"
        )
    version, files = fetch_champion(name, folder)
    return FoundModel(files, f"{name} version {version}, the champion", name, version)
