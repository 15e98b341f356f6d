"""Two versions compared on the same images: classes, cost, and the differences in data, code and parameters."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from PIL import Image
from safetensors import safe_open

from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.data.store import DATASET_FILE, Store
from segpipe.errors import IncomparableError, TrackingError
from segpipe.metrics import iou
from segpipe.metrics.parts.bootstrap import Comparison, Estimate, bundle, compare
from segpipe.metrics.parts.counts import mean_iou_of_images
from segpipe.metrics.parts.scores import evaluation_digest
from segpipe.places import MODEL_FILE, WEIGHTS_FILE
from segpipe.registry.champion import find_champion
from segpipe.registry.evaluations import (
    VALIDATION,
    ImageScores,
    download_model,
    fetch_image_scores,
    leave_out,
    measure_again,
    open_validation,
)
from segpipe.registry.measuring.measure import latency_ms_of_served, predict_served
from segpipe.registry.measuring.trust import Runnable
from segpipe.registry.versions import fetch_description, summarize
from segpipe.reports.overlay import side_by_side
from segpipe.tracking.tags import (
    DATASET_DIGEST,
    DVC_PREFIX,
    ENVIRONMENT_PREFIX,
    EVALUATION_DIGEST,
    GIT_COMMIT,
    INFERENCE,
    tags_below,
)

NUM_PICTURES = 6


def compare_versions(
    client: MlflowClient,
    first: ModelVersion,
    second: ModelVersion,
    dataset: Path,
    block_length: int | None,
    pictures: Path,
    is_trusted: bool = False,
) -> dict[str, Any]:
    """Compares two versions on one set of validation images; differences are second minus first.

    Args:
        client: of the store.
        first: usually the champion.
        second: usually the challenger.
        dataset: folder of the store; if it holds the images, both models are timed and their masks drawn on them.
        block_length: as `register.block_length`.
        pictures: existing folder for pictures of the images on which the two differ most.
        is_trusted: whether a person allows code that only the registry has to run.

    Raises:
        TrackingError: the two were measured on different images, and no store is here to measure both on; or one of
            them has only code that is not trusted.
    """
    scores, store, notes = _scores_on_one_set(client, first, second, dataset, is_trusted)
    elsewhere = [version for version in (first, second) if version.tags.get(EVALUATION_DIGEST) != scores[0].digest]
    (one, two), num_seen = leave_out([scores[0], scores[1].ordered_as(scores[0])], elsewhere)
    if num_seen:
        notes.append(f"{num_seen} images are left out, because one of the two was trained on them.")
    comparison = compare(two.confusions, one.confusions, bundle(one.groups, block_length))
    classes = store.classes if store is not None else _class_table(one.digest, first, second)
    if store is not None:
        costs, drawn = _run_both(first, second, one, two, store, pictures, is_trusted)
    else:
        costs, drawn = {}, []
        notes.append(f"{dataset} does not hold the images of both evaluations, so there are no speeds and no pictures.")
    champion = find_champion(client, first.name)
    return {
        "model_name": first.name,
        "versions": [
            {**_describe(version, champion), **costs.get(index, {})} for index, version in enumerate((first, second))
        ],
        "set": {
            "evaluation_digest": one.digest,
            "num_images": len(one.rows),
            "kind": comparison.kind,
            "num_units": comparison.num_units,
        },
        "notes": notes,
        "mean_iou": {
            **_difference(comparison.champion.value, comparison.challenger.value, comparison.delta),
            "probability": _finite(comparison.probability),
        },
        "classes": _compare_classes(one, two, comparison, classes),
        **_compare_origins(client, first, second),
        "pictures": drawn,
    }


def _compare_origins(client: MlflowClient, first: ModelVersion, second: ModelVersion) -> dict[str, Any]:
    """Gives what differs in data, parameters and environment of the two trainings."""
    return {
        "data": _differences(_tags(first, DVC_PREFIX), _tags(second, DVC_PREFIX)),
        "params": _differences(_params(client, first), _params(client, second)),
        "environment": _differences(_tags(first, ENVIRONMENT_PREFIX), _tags(second, ENVIRONMENT_PREFIX)),
    }


def _describe(version: ModelVersion, champion: ModelVersion | None) -> dict[str, Any]:
    """Gives a version as it was registered, perhaps with scores on other images."""
    model = fetch_description(version)
    return {
        **summarize(version, None),
        "is_champion": champion is not None and champion.version == version.version,
        "latency_ms": None,
        "num_parameters": None,
        "run_id": version.run_id,
        "model": model.model.name if model else None,
    }


def _compare_classes(
    one: ImageScores, two: ImageScores, comparison: Comparison, classes: ClassTable
) -> list[dict[str, Any]]:
    first, second = (iou.compute(scores.confusions).tolist() for scores in (one, two))
    rows = zip(classes.names, classes.colors, first, second, comparison.class_deltas, strict=True)
    return [{"name": name, "color": list(color), **_difference(a, b, delta)} for name, color, a, b, delta in rows]


def _difference(first: float, second: float, delta: Estimate) -> dict[str, float | None]:
    """Gives two scores and their difference as plain values; None where a value is not known."""
    values = {"first": first, "second": second, "difference": delta.value, "low": delta.low, "high": delta.high}
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scores_on_one_set(
    client: MlflowClient, first: ModelVersion, second: ModelVersion, dataset: Path, is_trusted: bool
) -> tuple[list[ImageScores], Store | None, list[str]]:
    """Gives the scores of both on the same images, the images if they are here, and notes for the reader."""
    digests = [version.tags.get(EVALUATION_DIGEST, "") for version in (second, first)]
    for digest in dict.fromkeys(digests):
        stored = [fetch_image_scores(client, version, digest) for version in (first, second)]
        if stored[0] is not None and stored[1] is not None:
            return [stored[0], stored[1]], open_validation(dataset, digest), _explain(first, second, digest)
    here = Store.open(dataset).of_split(VALIDATION) if (dataset / DATASET_FILE).exists() else None
    if here is None:
        raise TrackingError(
            f"versions {first.version} and {second.version} were measured on different images or labels, and "
            f"{dataset} is not here to measure both on; run `dvc repro evaluate` (or `dvc pull`)"
        )
    digest = evaluation_digest(here.digest)
    scores = []
    for version in (first, second):
        try:
            scores.append(
                fetch_image_scores(client, version, digest) or measure_again(client, version, here, is_trusted)
            )
        except IncomparableError as error:
            raise TrackingError(f"version {version.version} cannot be compared: {error}") from error
    return scores, here, _explain(first, second, digest)


def _explain(first: ModelVersion, second: ModelVersion, digest: str) -> list[str]:
    return [
        f"Version {version.version} was registered with other images or labels and was measured again on these."
        for version in (first, second)
        if version.tags.get(EVALUATION_DIGEST) != digest
    ]


def _class_table(digest: str, first: ModelVersion, second: ModelVersion) -> ClassTable:
    """Gives the classes of a set of images that is not here, from the version that was registered with it."""
    version = second if second.tags.get(EVALUATION_DIGEST) == digest else first
    description = fetch_description(version)
    if description is None:
        raise TrackingError(
            f"version {version.version}: its {MODEL_FILE} cannot be downloaded, so the names of its classes are not "
            "known; restore its files, or run `dvc repro evaluate`"
        )
    return description.classes


def _run_both(
    first: ModelVersion,
    second: ModelVersion,
    one: ImageScores,
    two: ImageScores,
    store: Store,
    pictures: Path,
    is_trusted: bool,
) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Times both models in turns, and draws the images on which they differ most."""
    with tempfile.TemporaryDirectory() as folder:
        models, classes = [], []
        for version in (first, second):
            try:
                model, names = download_model(version, Path(folder) / str(version.version), is_trusted)
            except IncomparableError as error:
                raise TrackingError(f"version {version.version} cannot be compared: {error}") from error
            models.append(model)
            classes.append(names)
        latencies_ms = latency_ms_of_served(models, store)
        costs = {
            index: {"latency_ms": latency_ms, "num_parameters": _count_parameters(model.model)}
            for index, (model, latency_ms) in enumerate(zip(models, latencies_ms, strict=True))
        }
        return costs, _draw(models, classes, one, two, store, pictures)


def _count_parameters(model: Path) -> int | None:
    file = next(model.rglob(WEIGHTS_FILE), None)
    if file is None:  # not registered by segpipe, although its MLmodel names its classes as ours do
        return None
    with safe_open(file, "numpy") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def _draw(
    models: list[Runnable],
    classes: list[tuple[str, ...]],
    one: ImageScores,
    two: ImageScores,
    store: Store,
    pictures: Path,
) -> list[dict[str, Any]]:
    of_image = np.array([mean_iou_of_images(scores.confusions) for scores in (one, two)])
    furthest_first = np.argsort(-np.abs(np.nan_to_num(of_image[1] - of_image[0])), kind="stable")[:NUM_PICTURES]
    positions = {name: index for index, name in enumerate(store.manifest["sample_id"])}
    ids = [str(one.rows["sample_id"].iloc[row]) for row in furthest_first]
    chosen = [(row, name, positions[name]) for row, name in zip(furthest_first, ids, strict=True) if name in positions]
    predictions = []
    for model, names in zip(models, classes, strict=True):
        to_store = _lookup(names, store.classes)
        masks = predict_served(model, store, [position for *_, position in chosen])
        predictions.append([to_store[mask] for mask in masks])
    drawn = []
    for number, (row, name, position) in enumerate(chosen):
        image, mask = store.read(position)
        file = f"{number + 1:02d}.png"
        picture = side_by_side(image, [mask, predictions[0][number], predictions[1][number]], store.classes)
        Image.fromarray(picture).save(pictures / file)
        group = str(one.rows["group"].iloc[row])
        first, second = (_finite(float(value)) for value in of_image[:, row])
        drawn.append({"file": file, "sample_id": name, "group": group, "first": first, "second": second})
    return drawn


def _lookup(names: tuple[str, ...], table: ClassTable) -> np.ndarray:
    """Maps a model's class indices to a table's, by name; a class that the table does not have becomes void."""
    lookup = np.full(256, IGNORE_INDEX, np.uint8)
    for index, name in enumerate(names):
        if name in table.names:
            lookup[index] = table.names.index(name)
    return lookup


def _tags(version: ModelVersion, prefix: str) -> dict[str, str]:
    mine = tags_below(version.tags, prefix)
    if prefix == DVC_PREFIX:
        extra = {"code (git commit)": GIT_COMMIT, "data set": DATASET_DIGEST}
        mine |= {label: version.tags[name] for label, name in extra.items() if name in version.tags}
    return mine


def _params(client: MlflowClient, version: ModelVersion) -> dict[str, str]:
    """Gives the parameters of the training, and how the model predicts: two versions may differ in that alone."""
    inference = version.tags.get(INFERENCE)
    predicts = "the network alone" if inference is None else f"as inference.json says ({inference})"
    trained = dict(client.get_run(version.run_id).data.params) if version.run_id else {}
    return {**trained, "evaluate.inference": predicts}


def _differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[dict[str, str | None]]:
    return [
        {"name": name, "first": first.get(name), "second": second.get(name)}
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]
