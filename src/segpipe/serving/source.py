"""Finds and downloads the versions of a registered model that an alias names, one after another."""

from pathlib import Path

from segpipe.serving.backends import choose_folder
from segpipe.serving.following import Source
from segpipe.tracking.client import connect, refusals
from segpipe.tracking.registered import fetch_version, find_exports


def follow_alias(model_name: str, alias: str, backend: str) -> Source:
    """Opens the registry.

    Args:
        model_name: the registered model.
        alias: that is followed, such as `champion`.
        backend: that will predict; an export for it, which a version holds, is taken.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    client = connect()

    def find_version() -> str:
        with refusals(f"the alias {alias} of {model_name!r}"):
            return str(client.get_model_version_by_alias(model_name, alias).version)

    def fetch(version: str, folder: Path) -> Path:
        files = fetch_version(model_name, version, folder)
        return choose_folder(files, find_exports(folder), backend)

    return Source(model_name, find_version, fetch)
