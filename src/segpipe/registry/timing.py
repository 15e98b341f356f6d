"""Times challenger and champion in turns on this machine: their networks as served, or their exports."""

import tempfile
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.config.register import ExportFormat, Register
from segpipe.data.store import Store
from segpipe.registry.evaluations import download_model
from segpipe.registry.exports import export_version, fetch_export, make_exports
from segpipe.registry.measuring.measure import latency_of_served
from segpipe.registry.measuring.trust import Runnable, by_export, by_this_package
from segpipe.registry.results import Results


def time_models(
    client: MlflowClient,
    policy: Register,
    results: Results,
    store: Store,
    version: ModelVersion | None,
    champion: ModelVersion | None,
) -> list[float]:
    """Times models by the backend of the budget.

    Args:
        client: of the registry.
        policy: the budget says what is timed.
        results: of the challenger.
        store: gives the images.
        version: of the challenger; None where it is not registered.
        champion: None where there is none.

    Returns:
        The median milliseconds for an image, of the challenger and, where there is one, of the champion.

    Raises:
        IncomparableError: the champion cannot be timed.
        ExportError: the challenger cannot be exported.
        TrackingError: files cannot be downloaded, or a model cannot predict.
    """
    form = policy.budget.timed_export
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder) / "challenger", Path(folder) / "champion"
        if form is None:
            results.copy_model(mine)
            models = [by_this_package(mine)]
            if champion is not None:
                models.append(download_model(champion, theirs)[0])
            return _medians(models, store)
        held = None if version is None else fetch_export(client, version, form, mine)
        if held is not None:
            return _medians([by_export(held), *_export_of(client, champion, form, results, theirs)], store)
        with make_exports(results, [form]) as made:
            return _medians([by_export(made[form]), *_export_of(client, champion, form, results, theirs)], store)


def _medians(models: list[Runnable], store: Store) -> list[float]:
    return [latency.median_ms for latency in latency_of_served(models, store)]


def _export_of(
    client: MlflowClient, champion: ModelVersion | None, form: ExportFormat, results: Results, place: Path
) -> list[Runnable]:
    """Gives the export that the champion holds, or else one that is made here; nothing where there is no champion."""
    if champion is None:
        return []
    held = fetch_export(client, champion, form, place / "held")
    if held is None:
        held = place / "made"
        export_version(download_model(champion, place / "version")[0], form, results.dataset_folder, held)
    return [by_export(held)]
