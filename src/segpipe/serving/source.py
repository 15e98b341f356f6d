"""Finds and downloads the versions of a registered model that an alias names, one after another."""

from pathlib import Path

from segpipe.serving.following import Source
from segpipe.tracking.client import connect, refusals
from segpipe.tracking.registered import fetch_version


def follow_alias(model_name: str, alias: str) -> Source:
    """Opens the registry.

    Args:
        model_name: the registered model.
        alias: that is followed, such as `champion`.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    client = connect()

    def find_version() -> str:
        with refusals(f"the alias {alias} of {model_name!r}"):
            return str(client.get_model_version_by_alias(model_name, alias).version)

    def fetch(version: str, folder: Path) -> Path:
        return fetch_version(model_name, version, folder)

    return Source(model_name, find_version, fetch)
