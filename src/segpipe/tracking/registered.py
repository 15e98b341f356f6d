"""Downloads the files of a registered model from MLflow: `model.json`, `weights.safetensors`, its run's lineage."""

import logging
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.errors import IncomparableError, StoreError, TrackingError
from segpipe.places import EXPORT_FILE, EXPORTS, MODEL_FILE
from segpipe.tracking.client import connect
from segpipe.tracking.lineage import LINEAGE, LINEAGE_FILE, RunLineage
from segpipe.tracking.tags import GIT_COMMIT

log = logging.getLogger(__name__)

# A rebuild sets this to `VERSION:FOLDER`: the version that the address named at the time, already downloaded.
PINNED_WEIGHTS = "SEGPIPE_PINNED_WEIGHTS"
# And this to what `auto` had chosen on the device, as JSON: {"precision": "bf16", "micro_batch": 4}. If the memory
# became too short for `micro_batch`, "halved_to" says what the training then took: a rebuild takes it from the start.
PINNED_CHOICES = "SEGPIPE_PINNED_CHOICES"


def fetch_version(model_name: str, version: str, output: Path) -> Path:
    """Downloads a version's files.

    Args:
        model_name: the registered model.
        version: its number.
        output: folder for the files.

    Returns:
        The folder that holds `model.json` and `weights.safetensors`.

    Raises:
        TrackingError: they cannot be downloaded.
        IncomparableError: the version was not registered by segpipe.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_name}/{version}", dst_path=str(output)))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"version {version} of {model_name!r} cannot be downloaded: {error}") from error
    description = next(folder.rglob(MODEL_FILE), None)
    if description is None:
        fix = "take another version (`segpipe registry list`)"
        raise IncomparableError(f"version {version} of {model_name!r} was not registered by segpipe; {fix}")
    return description.parent


def find_exports(output: Path) -> dict[str, Path]:
    """Gives the folders of the exports that a downloaded version holds, by their format.

    Args:
        output: what `fetch_version` was given.
    """
    return {file.parent.name: file.parent for file in sorted((output / EXPORTS).glob(f"*/{EXPORT_FILE}"))}


def fetch_lineage(version: ModelVersion) -> RunLineage:
    """Downloads the lineage that a version's run keeps; of a version of an earlier release, it is in the tags.

    If it cannot be downloaded and is not in the tags, a warning says so.
    """
    kept = RunLineage.of(version.tags)
    if not version.run_id:  # registered by hand
        return kept
    place = f"{LINEAGE}/{LINEAGE_FILE}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=place, dst_path=folder)
            lineage = RunLineage.read(Path(path), "train again")
        except (MlflowException, OSError, StoreError) as error:
            if GIT_COMMIT in version.tags and not kept.data:  # not of an earlier release, nor of another program
                log.warning(
                    "version %s of %r: %s of its run %s cannot be read, so the hashes of its data and its environment "
                    "are missing here: %s; restore the run if it was deleted, or check where MLflow keeps its files",
                    version.version,
                    version.name,
                    place,
                    version.run_id,
                    error,
                )
            return kept
    return RunLineage(data={**kept.data, **lineage.data}, environment={**kept.environment, **lineage.environment})


def fetch_address(address: str, output: Path) -> tuple[str, Path]:
    """Downloads the files of the version that an address names now.

    Args:
        address: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        output: folder for the files.

    Returns:
        The version's number, and the folder that `fetch_version` gives.

    Raises:
        TrackingError: there is no such model, alias or version, or MLflow cannot be reached.
    """
    client = connect()
    path = address.removeprefix("models:/")
    name, version = _resolve_alias(client, *path.split("@")) if "@" in path else tuple(path.split("/"))
    return version, fetch_version(name, version, output)


def read_commit(model_name: str, version: str) -> str | None:
    """Gives the commit that trained a version, as its tags say; None where they do not.

    Raises:
        TrackingError: MLflow cannot be reached, or holds no such version.
    """
    try:
        tags = connect().get_model_version(model_name, version).tags
    except MlflowException as error:
        raise TrackingError(f"version {version} of {model_name!r} cannot be read: {error.message}") from error
    return tags.get(GIT_COMMIT)


def _resolve_alias(client: MlflowClient, model_name: str, alias: str) -> tuple[str, str]:
    try:
        return model_name, str(client.get_model_version_by_alias(model_name, alias).version)
    except MlflowException as error:
        fix = "register a model first (`dvc repro`), or name another (`segpipe registry list`)"
        raise TrackingError(f"MLflow has no alias {alias} of {model_name!r}: {error.message}; {fix}") from error
