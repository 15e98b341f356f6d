"""Two versions compared on the same images: classes, cost, and the differences in data, code and parameters."""

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from segpipe.registry.measuring.measure import latency_of_served, predict_served
from segpipe.registry.measuring.trust import Runnable
from segpipe.registry.versions import fetch_description, summarize
from segpipe.reports.documents.comparison import (
    ClassDifference,
    ComparedImages,
    ComparedPicture,
    ComparedVersion,
    MeanDifference,
    TextDifference,
    VersionComparison,
)
from segpipe.reports.drawing.overlay import side_by_side
from segpipe.tracking.lineage import RunLineage
from segpipe.tracking.registered import fetch_lineage
from segpipe.tracking.tags import (
    DATASET_DIGEST,
    EVALUATION_DIGEST,
    GIT_COMMIT,
    INFERENCE,
)

log = logging.getLogger(__name__)

NUM_PICTURES = 6
Versions = tuple[ModelVersion, ModelVersion]


@dataclass(frozen=True)
class _SameImages:
    """The scores of both versions on the same images.

    Attributes:
        one: of the first version.
        two: of the second, in the order of `one`.
        store: the images, if they are here.
        notes: for the reader.
    """

    one: ImageScores
    two: ImageScores
    store: Store | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Cost:
    """What a version costs; None where it was not measured.

    Attributes:
        latency_ms: of one image: the median.
        latency_low_ms: a tenth of the calls is faster.
        latency_high_ms: a tenth of the calls is slower.
        num_parameters: of the network.
    """

    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    num_parameters: int | None = None


@dataclass(frozen=True)
class _Served:
    """A version's model as it is served.

    Attributes:
        model: that can be run.
        class_names: of its class indices.
    """

    model: Runnable
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class _Ran:
    """What running both models gave.

    Attributes:
        costs: of the first and the second version.
        pictures: that were drawn.
        notes: for the reader.
    """

    costs: tuple[_Cost, _Cost]
    pictures: tuple[ComparedPicture, ...]
    notes: tuple[str, ...] = ()


def compare_versions(
    client: MlflowClient,
    first: ModelVersion,
    second: ModelVersion,
    dataset: Path,
    block_length: int | None,
    pictures: Path,
    is_trusted: bool = False,
) -> VersionComparison:
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
    both = (first, second)
    log.info("reading the scores of versions %s and %s", first.version, second.version)
    same = _without_training_images(both, _scores_on_one_set(client, both, dataset, is_trusted))
    comparison = compare(same.two.confusions, same.one.confusions, bundle(same.one.groups, block_length))
    if same.store is None:
        classes, ran = _class_table(same.one.digest, both), _not_run(dataset)
    else:
        classes, ran = same.store.classes, _run_both(both, same, same.store, pictures, is_trusted)
    lineages = [fetch_lineage(version) for version in both]
    return VersionComparison(
        model_name=first.name,
        versions=_describe_both(client, both, ran.costs),
        set=_describe_images(same.one, comparison),
        notes=same.notes + ran.notes,
        mean_iou=_compare_means(comparison),
        classes=_compare_classes(same, comparison, classes),
        data=_differences(*(_data(version, lineage) for version, lineage in zip(both, lineages, strict=True))),
        params=_differences(*(_params(client, version) for version in both)),
        environment=_differences(*(lineage.environment for lineage in lineages)),
        pictures=ran.pictures,
    )


def _describe_both(
    client: MlflowClient, both: Versions, costs: tuple[_Cost, _Cost]
) -> tuple[ComparedVersion, ComparedVersion]:
    champion = find_champion(client, both[0].name)
    return _describe(both[0], champion, costs[0]), _describe(both[1], champion, costs[1])


def _describe(version: ModelVersion, champion: ModelVersion | None, cost: _Cost) -> ComparedVersion:
    """Gives a version as it was registered, perhaps with scores on other images."""
    model = fetch_description(version)
    return ComparedVersion(
        **vars(summarize(version, None, champion)),
        **vars(cost),
        run_id=version.run_id,
        model=model.model.name if model else None,
    )


def _describe_images(scores: ImageScores, comparison: Comparison) -> ComparedImages:
    return ComparedImages(
        evaluation_digest=scores.digest,
        num_images=len(scores.rows),
        kind=comparison.kind,
        num_units=comparison.num_units,
    )


def _compare_means(comparison: Comparison) -> MeanDifference:
    difference = _difference(comparison.champion.value, comparison.challenger.value, comparison.delta)
    return MeanDifference(**difference, probability=_finite(comparison.probability))


def _compare_classes(same: _SameImages, comparison: Comparison, classes: ClassTable) -> list[ClassDifference]:
    first, second = (iou.compute(scores.confusions).tolist() for scores in (same.one, same.two))
    rows = zip(classes.names, classes.colors, first, second, comparison.class_deltas, strict=True)
    return [ClassDifference(name=name, color=color, **_difference(a, b, delta)) for name, color, a, b, delta in rows]


def _difference(first: float, second: float, delta: Estimate) -> dict[str, float | None]:
    """Gives the attributes of a `ScoreDifference`; None where a value is not known."""
    values = {"first": first, "second": second, "difference": delta.value, "low": delta.low, "high": delta.high}
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scores_on_one_set(client: MlflowClient, both: Versions, dataset: Path, is_trusted: bool) -> _SameImages:
    """Gives the scores of both on the same images; one of the two may have been trained on some of them."""
    first, second = both
    digests = [version.tags.get(EVALUATION_DIGEST, "") for version in (second, first)]
    for digest in dict.fromkeys(digests):
        one, two = (fetch_image_scores(client, version, digest) for version in both)
        if one is not None and two is not None:
            return _SameImages(one, two, open_validation(dataset, digest), _explain(both, digest))
    if not (dataset / DATASET_FILE).exists():
        raise TrackingError(
            f"versions {first.version} and {second.version} were measured on different images or labels, and "
            f"{dataset} is not here to measure both on; run `dvc repro evaluate` (or `dvc pull`)"
        )
    here = Store.open(dataset).of_split(VALIDATION)
    one, two = (_scores_on(client, version, here, is_trusted) for version in both)
    return _SameImages(one, two, here, _explain(both, evaluation_digest(here.digest)))


def _scores_on(client: MlflowClient, version: ModelVersion, store: Store, is_trusted: bool) -> ImageScores:
    """Gives the scores of a version on the images of a store; measures them where the registry has none."""
    try:
        stored = fetch_image_scores(client, version, evaluation_digest(store.digest))
        return stored or measure_again(client, version, store, is_trusted)
    except IncomparableError as error:
        raise TrackingError(f"version {version.version} cannot be compared: {error}") from error


def _without_training_images(both: Versions, same: _SameImages) -> _SameImages:
    """Leaves out the images on which a version was trained that was registered with other validation images."""
    elsewhere = [version for version in both if version.tags.get(EVALUATION_DIGEST) != same.one.digest]
    (one, two), num_seen = leave_out([same.one, same.two.ordered_as(same.one)], elsewhere)
    note = f"{num_seen} images are left out, because one of the two was trained on them."
    return replace(same, one=one, two=two, notes=(*same.notes, note) if num_seen else same.notes)


def _explain(both: Versions, digest: str) -> tuple[str, ...]:
    return tuple(
        f"Version {version.version} was registered with other images or labels and was measured again on these."
        for version in both
        if version.tags.get(EVALUATION_DIGEST) != digest
    )


def _class_table(digest: str, both: Versions) -> ClassTable:
    """Gives the classes of a set of images that is not here, from the version that was registered with it."""
    first, second = both
    version = second if second.tags.get(EVALUATION_DIGEST) == digest else first
    description = fetch_description(version)
    if description is None:
        raise TrackingError(
            f"version {version.version}: its {MODEL_FILE} cannot be downloaded, so the names of its classes are not "
            "known; restore its files, or run `dvc repro evaluate`"
        )
    return description.classes


def _not_run(dataset: Path) -> _Ran:
    note = f"{dataset} does not hold the images of both evaluations, so there are no speeds and no pictures."
    return _Ran((_Cost(), _Cost()), (), (note,))


def _run_both(both: Versions, same: _SameImages, store: Store, pictures: Path, is_trusted: bool) -> _Ran:
    """Times both models in turns, and draws the images on which they differ most."""
    with tempfile.TemporaryDirectory() as folder:
        one, two = (_download(version, Path(folder) / str(version.version), is_trusted) for version in both)
        log.info("timing both models on this machine")
        latencies = latency_of_served([one.model, two.model], store)
        first, second = (
            _Cost(time.median_ms, time.low_ms, time.high_ms, _count_parameters(served.model.model))
            for served, time in zip((one, two), latencies, strict=True)
        )
        log.info("drawing the images on which they differ most")
        return _Ran((first, second), tuple(_draw((one, two), same, store, pictures)))


def _download(version: ModelVersion, folder: Path, is_trusted: bool) -> _Served:
    try:
        return _Served(*download_model(version, folder, is_trusted))
    except IncomparableError as error:
        raise TrackingError(f"version {version.version} cannot be compared: {error}") from error


def _count_parameters(model: Path) -> int | None:
    file = next(model.rglob(WEIGHTS_FILE), None)
    if file is None:  # not registered by segpipe, although its MLmodel names its classes as ours do
        return None
    with safe_open(file, "numpy") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def _draw(both: tuple[_Served, _Served], same: _SameImages, store: Store, pictures: Path) -> Iterator[ComparedPicture]:
    """Writes pictures of the images on which two models differ most: image, truth and both predictions."""
    rows, of_image = same.one.rows, [mean_iou_of_images(scores.confusions) for scores in (same.one, same.two)]
    furthest_first = np.argsort(-np.abs(np.nan_to_num(of_image[1] - of_image[0])), kind="stable")[:NUM_PICTURES]
    positions = {name: index for index, name in enumerate(store.manifest["sample_id"])}
    chosen = [row for row in furthest_first if rows["sample_id"].iloc[row] in positions]
    shown = [positions[rows["sample_id"].iloc[row]] for row in chosen]
    predicted = zip(*(_predict(served, store, shown) for served in both), strict=True)
    for number, (row, position, masks) in enumerate(zip(chosen, shown, predicted, strict=True), 1):
        image, truth = store.read(position)
        file = f"{number:02d}.png"
        Image.fromarray(side_by_side(image, [truth, *masks], store.classes)).save(pictures / file)
        first, second = (_finite(float(scores[row])) for scores in of_image)
        sample_id, group = (str(rows[key].iloc[row]) for key in ("sample_id", "group"))
        yield ComparedPicture(file=file, sample_id=sample_id, group=group, first=first, second=second)


def _predict(served: _Served, store: Store, positions: Sequence[int]) -> list[np.ndarray]:
    """Gives the masks of a model for images of a store, as class indices of the store."""
    to_store = _lookup(served.class_names, store.classes)
    return [to_store[mask] for mask in predict_served(served.model, store, positions)]


def _lookup(names: tuple[str, ...], table: ClassTable) -> np.ndarray:
    """Maps a model's class indices to a table's, by name; a class that the table does not have becomes void."""
    lookup = np.full(256, IGNORE_INDEX, np.uint8)
    for index, name in enumerate(names):
        if name in table.names:
            lookup[index] = table.names.index(name)
    return lookup


def _data(version: ModelVersion, lineage: RunLineage) -> dict[str, str]:
    extra = {"code (git commit)": GIT_COMMIT, "data set": DATASET_DIGEST}
    return {**lineage.data, **{label: version.tags[name] for label, name in extra.items() if name in version.tags}}


def _params(client: MlflowClient, version: ModelVersion) -> dict[str, str]:
    """Gives the parameters of the training, and how the model predicts: two versions may differ in that alone."""
    inference = version.tags.get(INFERENCE)
    predicts = "the network alone" if inference is None else f"as inference.json says ({inference})"
    trained = dict(client.get_run(version.run_id).data.params) if version.run_id else {}
    return {**trained, "evaluate.inference": predicts}


def _differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[TextDifference]:
    return [
        TextDifference(name=name, first=first.get(name), second=second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]
