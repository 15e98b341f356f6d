"""Finds and downloads the versions of a registered model that an alias names, one after another."""

from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.serving.backends import choose_folder
from segpipe.serving.following import Source
from segpipe.tracking.client import connect, refusals
from segpipe.tracking.registered import fetch_version, find_exports

NO_SUCH = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # of a model, of an alias


def follow_alias(model_name: str, alias: str, backend: str) -> Source:
    """Gives what asks the registry; it is opened by the first question.

    Args:
        model_name: the registered model.
        alias: that is followed, such as `champion`.
        backend: that will predict; an export for it, which a version holds, is taken.
    """
    opened: list[MlflowClient] = []

    def find_version() -> str | None:
        if not opened:
            opened.append(connect())
        with refusals(f"the alias {alias} of {model_name!r}"):
            try:
                return str(opened[0].get_model_version_by_alias(model_name, alias).version)
            except MlflowException as error:
                if error.error_code in NO_SUCH:
                    return None
                raise

    def fetch(version: str, folder: Path) -> Path:
        files = fetch_version(model_name, version, folder)
        return choose_folder(files, find_exports(folder), backend)

    return Source(model_name, alias, find_version, fetch)
