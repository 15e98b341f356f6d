"""The files of a model by its address, for whoever predicts or exports: the champion, a version, a folder.

Only `model.json`, the weights and `inference.json` are used; no Python file of the registry is run.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.config.params import load_config
from segpipe.config.reading import PARAMS_FILE
from segpipe.config.train import REGISTERED
from segpipe.errors import PredictionError

CHAMPION = "champion"
TRACKING = "MLFLOW_TRACKING_URI"
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
MODELS_TAKEN = f"{CHAMPION}, {REGISTERED}NAME@ALIAS, {REGISTERED}NAME/VERSION, or the folder of a trained model"


@dataclass(frozen=True)
class FoundModel:
    """A model's files on this machine.

    Attributes:
        folder: holds `model.json`, `weights.safetensors` and, where it has one, `inference.json`.
        title: of the model, for messages.
        name: of the registered model; None for a folder.
        version: its number in the registry; None for a folder.
        exports: the folders of the exports that the version holds, by their format.
    """

    folder: Path
    title: str
    name: str | None = None
    version: str | None = None
    exports: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Alias:
    """An alias of a registered model.

    Attributes:
        model_name: of the registered model.
        alias: such as `champion`.
    """

    model_name: str
    alias: str


def read_alias(address: str, registry: str | None = None) -> Alias | None:
    """Gives the alias that an address names, whether it exists or not; None for a version or a folder.

    Args:
        address: as for `find_model`.
        registry: as for `find_model`; MLflow's environment variable names it from then on.

    Raises:
        PredictionError: the address has another form, or nothing says which model is meant.
        TrackingError: the registry must be asked for the model's name, and has none or cannot be reached.
    """
    if registry:
        os.environ[TRACKING] = registry
    if address == CHAMPION:
        return Alias(_find_name(), CHAMPION)
    if not address.startswith(REGISTERED):
        return None
    _check_address(address)
    name, _, alias = address.removeprefix(REGISTERED).partition("@")
    return Alias(name, alias) if alias else None


@contextlib.contextmanager
def find_model(address: str | Path, registry: str | None = None) -> Iterator[FoundModel]:
    """Gives a model's files; those of the registry are downloaded, and deleted at the end.

    MLflow's environment variable names the registry from then on; `as_before` makes that end.

    Args:
        address: `champion`, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder. `champion` is that of
            `register.model_name` in `params.yaml`; in a folder without that file it is the registry's only champion.
        registry: address of MLflow; None takes `MLFLOW_TRACKING_URI`, or else the project's own store.

    Raises:
        PredictionError: the address has another form, or nothing says which registry is meant.
        TrackingError: there is no such model, or MLflow cannot be reached.
    """
    if isinstance(address, Path) or (address != CHAMPION and not address.startswith(REGISTERED)):
        yield FoundModel(Path(address), str(address))
        return
    # What MLflow prints goes to standard error, because standard output is for the caller's lines.
    if registry:
        os.environ[TRACKING] = registry
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            files = _download(address, Path(folder))
        yield files


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Lets MLflow use at the end the registry that it used before: for callers whose process is not ours."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    variables = {name: os.environ.get(name) for name in (TRACKING, *LOGIN)}
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _download(address: str, folder: Path) -> FoundModel:
    if address == CHAMPION:
        return _download_champion(folder)
    _check_address(address)
    from segpipe.tracking.registered import fetch_address, find_exports

    version, files = fetch_address(address, folder)
    name = re.split("[@/]", address.removeprefix(REGISTERED))[0]
    return FoundModel(files, f"{address} (version {version})", name, version, find_exports(folder))


def _check_address(address: str) -> None:
    if not re.fullmatch(rf"{REGISTERED}[^/@]+(@[^/@]+|/\d+)", address):
        raise PredictionError(f"{address!r} is no address of a model; write {MODELS_TAKEN}")


def _find_name() -> str:
    """Gives the name of the registered model whose champion is meant."""
    if PARAMS_FILE.exists():
        return load_config().register_.model_name
    if not os.environ.get(TRACKING):
        raise PredictionError(
            f"there is no {PARAMS_FILE} here that names a model; name the registry by --registry ADDRESS (in Python "
            f"registry=ADDRESS) or {TRACKING}, or give the folder of a model instead of {CHAMPION} (--model FOLDER)"
        )
    from segpipe.registry.champion import find_only_champion
    from segpipe.tracking.client import connect

    return find_only_champion(connect())


def _download_champion(folder: Path) -> FoundModel:
    from segpipe.registry.champion import fetch_champion
    from segpipe.tracking.registered import find_exports

    name = _find_name()
    version, files = fetch_champion(name, folder)
    return FoundModel(files, f"{name} version {version}, the champion", name, version, find_exports(folder))
