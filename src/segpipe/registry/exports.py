"""The exports of a registered model: made before it is registered, and kept in its version's folder `exports/`.

An export is made by another process: no stage depends on how a network is exported (docs/decisions/0030). Its files are
logged before its `export.json`, so an export whose `export.json` is there is whole. After a registration was killed,
the next one makes and logs the others again, to the same places.
"""

import contextlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.code import PACKAGE
from segpipe.config.register import ExportFormat
from segpipe.errors import CommandError, ExportError, IncomparableError, TrackingError
from segpipe.places import EXPORT_FILE, EXPORTS
from segpipe.process import run_module
from segpipe.registry.measuring.confine import few_variables
from segpipe.registry.measuring.trust import Runnable
from segpipe.registry.results import Results
from segpipe.tracking.client import retry_busy
from segpipe.tracking.tags import WEIGHTS_SHA256

log = logging.getLogger(__name__)

MAKER = "segpipe.serving.preparing"  # also predicts the samples on which `segpipe serve` tries a model
FIX = "promote by hand (`segpipe registry promote`), or write `backend: torch` under register.budget in params.yaml"


def find_logged_model(version: ModelVersion) -> str | None:
    """Gives the id of the logged model whose files a version has; None for one that segpipe did not register so.

    MLflow's own `model_id` of a version is empty in its SQL store; the source is never.
    """
    found = re.fullmatch(r"models:/(m-[\w-]+)", version.source or "")
    return None if found is None else found.group(1)


def list_exports(client: MlflowClient, model_id: str | None) -> list[str]:
    """Gives the formats of the exports that a logged model holds, whole ones alone.

    Args:
        client: of the store.
        model_id: of the logged model; None for a version without one.
    """
    if not model_id:
        return []
    folders = [item.path for item in client.list_logged_model_artifacts(model_id, EXPORTS) if item.is_dir]
    return sorted(
        Path(folder).name
        for folder in folders
        if any(Path(file.path).name == EXPORT_FILE for file in client.list_logged_model_artifacts(model_id, folder))
    )


@contextlib.contextmanager
def make_exports(
    results: Results, formats: Sequence[ExportFormat], commit: str | None = None
) -> Iterator[dict[ExportFormat, Path]]:
    """Exports a model that is not registered yet; the files are deleted at the end.

    Args:
        results: of its training and evaluation.
        formats: of the exports.
        commit: that trained it, for the lineage; None where it is not known.

    Yields:
        The folder of each export.

    Raises:
        ExportError: it cannot be exported, an export predicts something else, or a package is missing.
    """
    with tempfile.TemporaryDirectory() as place:
        files, made = Path(place) / "files", {}
        if formats:
            results.copy_model(files)
        for form in formats:
            made[form] = Path(place) / EXPORTS / form
            try:
                _make(files, made[form], form, results.dataset_folder, commit)
            except ExportError as error:
                fix = f"correct that, or take {form} out of register.export in params.yaml"
                what = f"{results.model_folder}: its export to {form} was not made"
                raise ExportError(f"{what}; {fix}:\n{error}") from error
        yield made


def log_exports(client: MlflowClient, model_id: str, exports: Mapping[ExportFormat, Path]) -> None:
    """Logs exports with a model, except for those that it already holds."""
    held = list_exports(client, model_id) if exports else []
    for form, folder in exports.items():
        if form in held:
            continue
        place = f"{EXPORTS}/{form}"
        files = [file for file in sorted(folder.iterdir()) if file.name != EXPORT_FILE]
        for file in [*files, folder / EXPORT_FILE]:
            retry_busy(lambda file=file, place=place: client.log_model_artifact(model_id, str(file), place))  # type: ignore[misc]
        log.info("%s was logged with the model", place)


def fetch_export(client: MlflowClient, version: ModelVersion, form: ExportFormat, output: Path) -> Path | None:
    """Downloads an export that a version holds; None where it holds none.

    Args:
        client: of the store.
        version: of the registry.
        form: of the export.
        output: a new folder.

    Raises:
        TrackingError: it cannot be downloaded, or is not one of the version's weights.
    """
    if form not in list_exports(client, find_logged_model(version)):
        return None
    address = f"models:/{version.name}/{version.version}/{EXPORTS}/{form}"
    output.mkdir(parents=True)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(output)))
        exported = json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8"))["lineage"]["weights_sha256"]
    except (MlflowException, OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{address} cannot be used: {error}; restore its files") from error
    if exported != version.tags.get(WEIGHTS_SHA256):
        raise TrackingError(f"{address} is an export of other weights than the version's; restore its files")
    return folder


def export_version(model: Runnable, form: ExportFormat, dataset: Path, output: Path) -> None:
    """Exports a registered model that holds no export, if this package is the code that it was registered with.

    Args:
        model: its files, and the code that may run it.
        form: of the export.
        dataset: whose validation images are compared.
        output: a new folder.

    Raises:
        IncomparableError: other code than this package runs it, or its export cannot be made.
    """
    lacks = f"it holds no export to {form}, and none can be made here"
    if model.sources != PACKAGE.parent:
        raise IncomparableError(f"{lacks}: it was registered with other code than this package's; {FIX}")
    try:
        _make(model.model, output, form, dataset, None)
    except ExportError as error:
        raise IncomparableError(f"{lacks} ({' '.join(str(error).split())}); {FIX}") from error


def _make(files: Path, output: Path, form: ExportFormat, dataset: Path, commit: str | None) -> None:
    log.info("exporting to %s, and comparing on the validation images", form)
    output.parent.mkdir(exist_ok=True)
    arguments = [str(files), str(output), "--format", form, "--dataset", str(dataset.resolve())]
    if commit is not None:
        arguments += ["--commit", commit]
    try:
        run_module(MAKER, arguments, cwd=output.parent, env=few_variables(os.environ), what=f"the export to {form}")
    except CommandError as error:
        raise ExportError(str(error)) from error
