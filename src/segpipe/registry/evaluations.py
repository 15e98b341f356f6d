"""The scores of a model on each validation image: read from its run, or measured now if its run has other images.

Two models may be compared only on the same images with the same labels, counted in the same way: their evaluations have
the same digest then. If the champion's digest differs, the champion is measured again, as it is served, and the result
is kept with its run under the new digest.
"""

import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.config.train import REGISTERED
from segpipe.data.store import MANIFEST, Store
from segpipe.documents import ModelDescription
from segpipe.errors import IncomparableError, StoreError, TrackingError
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.counts import CONFUSION_AXES
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.scores import evaluation_digest
from segpipe.places import CONFUSION_FILE, PER_IMAGE_FILE
from segpipe.registry.measuring.measure import classes_of_served, confusions_of_served
from segpipe.registry.measuring.trust import Runnable, find_code
from segpipe.registry.versions import fetch_description
from segpipe.tracking.lineage import LINEAGE
from segpipe.tracking.run import evaluation_place
from segpipe.tracking.tags import EVALUATION_DIGEST, INFERENCE, WEIGHTS_SHA256

log = logging.getLogger(__name__)

VALIDATION = "val"
CONTENT = ["image_sha256", "mask_sha256"]
EARLIER_COLUMN = "confusion"


@dataclass(frozen=True)
class ImageScores:
    """The scores of a model on each image of a set.

    Attributes:
        rows: one row an image: `sample_id`, `group`, `image_sha256`, `mask_sha256`, and the source's attributes.
        confusions: confusion matrices of these images.
        digest: of the images, their labels and the metric.
    """

    rows: pd.DataFrame
    confusions: ImageCounts
    digest: str

    @property
    def groups(self) -> list[str]:
        """The group of each image."""
        return [str(group) for group in self.rows["group"]]

    @property
    def mean_iou(self) -> float:
        """The mean IoU of all images together, 0..1."""
        return mean_iou.compute(self.confusions)

    def ordered_as(self, other: "ImageScores") -> "ImageScores":
        """The same rows in the order of another evaluation of the same images."""
        mine, theirs = _keys(self.rows), _keys(other.rows)
        places = pd.Series(range(len(mine)), index=pd.MultiIndex.from_frame(mine))
        return self.of_images(places.loc[pd.MultiIndex.from_frame(theirs)].to_numpy())

    def of_images(self, places: npt.NDArray[np.integer[Any]]) -> "ImageScores":
        """The scores of some images, in the order of their places."""
        rows = self.rows.iloc[places].reset_index(drop=True)
        return ImageScores(rows, self.confusions.take(places), self.digest)


def leave_out(scores: Sequence[ImageScores], versions: Sequence[ModelVersion]) -> tuple[list[ImageScores], int]:
    """Removes the images that a version was trained on: after a change of the split, these can be validation images.

    Args:
        scores: of the same images.
        versions: those that may have been trained on other images than the scores' owners.

    Returns:
        The scores without these images, and how many images were removed.

    Raises:
        IncomparableError: no image is left.
    """
    seen = {image for version in versions for image in _trained_on(version)}
    kept = [one.of_images(np.flatnonzero(~one.rows["image_sha256"].isin(seen))) for one in scores]
    if not len(kept[0].rows):
        raise IncomparableError("every validation image was used in a training; choose other images for validation")
    return kept, len(scores[0].rows) - len(kept[0].rows)


def find_elders(client: MlflowClient, model: ModelDescription | None) -> list[ModelVersion]:
    """Gives the version with whose weights a training began, the one with whose weights that began, and so on.

    Their training images may be validation images since, and what they have learnt of these is inherited.

    Args:
        client: of the registry.
        model: the training's; None for a version that segpipe did not register.

    Returns:
        As far as the versions exist and hold the weights that were taken.
    """
    elders: list[ModelVersion] = []
    while model is not None and (initial := model.initial_weights) is not None and initial.version is not None:
        name = re.split("[@/]", initial.source.removeprefix(REGISTERED))[0]
        try:
            elder = client.get_model_version(name, initial.version)
        except MlflowException:  # deleted
            break
        is_known = any((one.name, one.version) == (elder.name, elder.version) for one in elders)
        if is_known or elder.tags.get(WEIGHTS_SHA256) != initial.sha256:
            break
        elders.append(elder)
        model = fetch_description(elder)
    return elders


def _trained_on(version: ModelVersion) -> set[str]:
    """Gives the sha256 of each image that a version was trained on; none if its run does not keep the manifest."""
    if not version.run_id:
        return set()
    with tempfile.TemporaryDirectory() as folder:
        try:
            place = f"{LINEAGE}/{MANIFEST}"
            found = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=place, dst_path=folder)
            manifest = pd.read_parquet(found, columns=["image_sha256", "split"])
        except (MlflowException, OSError, ValueError):
            return set()
    return set(manifest.loc[manifest["split"] == "train", "image_sha256"])


def _keys(rows: pd.DataFrame) -> pd.DataFrame:
    """Identifies each image by its content; equal images also by their order."""
    return rows[CONTENT].assign(occurrence=rows.groupby(CONTENT).cumcount())


def read_image_scores(evaluation_folder: Path, digest: str) -> ImageScores:
    """Reads the validation scores that `evaluate` wrote.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        return _read(evaluation_folder / PER_IMAGE_FILE, evaluation_folder / CONFUSION_FILE, digest)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{evaluation_folder / PER_IMAGE_FILE}: {error}; run `dvc repro evaluate`") from error


def _read(rows_file: Path, confusion_file: Path, digest: str) -> ImageScores:
    """Reads the validation scores. Earlier releases wrote each matrix, row by row, into a column of the first file.

    Raises:
        OSError: a file is missing.
        ValueError: a file has other content.
        KeyError: a column is missing.
    """
    rows = pd.read_parquet(rows_file)
    if EARLIER_COLUMN in rows:
        confusions = _of_flat_matrices(rows.pop(EARLIER_COLUMN))
    else:
        confusions = ImageCounts.read(confusion_file)
    if confusions.num_images != len(rows):
        raise ValueError(f"{len(rows)} images, but confusion matrices of {confusions.num_images}")
    return ImageScores(rows, confusions, digest).of_images(np.flatnonzero(rows["split"] == VALIDATION))


def _of_flat_matrices(column: "pd.Series[Any]") -> ImageCounts:
    """Reads dense matrices one by one: all of them together may not fit into the memory."""
    num_classes = round(len(column.iloc[0]) ** 0.5)
    matrices = (np.asarray(flat, np.int64).reshape(1, num_classes, num_classes) for flat in column)
    return ImageCounts.join([ImageCounts.of_dense(matrix, CONFUSION_AXES) for matrix in matrices])


def fetch_image_scores(client: MlflowClient, version: ModelVersion, digest: str) -> ImageScores | None:
    """Downloads a version's scores on the images of a digest; None where it was never measured on them."""
    own = evaluation_place(version.tags.get(INFERENCE))
    places = [own] if version.tags.get(EVALUATION_DIGEST) == digest else []
    for place in [*places, _place(version, digest)]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows_file = _download(version, f"{place}/{PER_IMAGE_FILE}", Path(folder))
                is_earlier = EARLIER_COLUMN in pq.read_schema(rows_file).names
                confusions = rows_file if is_earlier else _download(version, f"{place}/{CONFUSION_FILE}", Path(folder))
                scores = _read(rows_file, confusions, digest)
            except (MlflowException, OSError, ValueError, KeyError):  # missing or damaged: it is measured again
                continue
        if {*CONTENT, "split"} <= set(scores.rows.columns):  # older releases did not write these columns
            return scores
    return None


def _download(version: ModelVersion, place: str, folder: Path) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=place, dst_path=str(folder)))


def _place(version: ModelVersion, digest: str) -> str:
    """Gives the folder in a version's run for what was measured later; versions of one run may predict differently."""
    return "/".join(["evaluations", digest, *filter(None, [version.tags.get(INFERENCE)])])


def open_validation(dataset: Path, digest: str) -> Store | None:
    """Opens the validation images if they are here and have this digest; else None."""
    try:
        store = Store.open(dataset).of_split(VALIDATION)
    except StoreError:
        return None
    return store if evaluation_digest(store.digest) == digest else None


def measure_again(client: MlflowClient, version: ModelVersion, store: Store, is_trusted: bool = False) -> ImageScores:
    """Measures a registered model on validation images, by the code it was registered with, and keeps the result.

    Args:
        client: of the store.
        version: to be measured.
        store: the images.
        is_trusted: whether a person allows code that only the registry has to run.

    Raises:
        IncomparableError: it predicts classes that the images' table does not have, or was not registered by segpipe,
            or only code that is not trusted could run it.
        TrackingError: it cannot be downloaded or fails.
    """
    digest = evaluation_digest(store.digest)
    log.info("measuring version %s on %s images", version.version, len(store))
    with tempfile.TemporaryDirectory() as folder:
        model, classes = download_model(version, Path(folder) / "model", is_trusted)
        confusions = confusions_of_served(model, classes, store)
        rows = store.manifest[["sample_id", "group", "split", *CONTENT]].copy()
        if version.run_id:
            # The matrices first: whoever finds the rows finds these too.
            for file, write in ((CONFUSION_FILE, confusions.write), (PER_IMAGE_FILE, rows.to_parquet)):
                path = Path(folder) / file
                path.parent.mkdir(exist_ok=True)
                write(path)
                client.log_artifact(version.run_id, str(path), (_place(version, digest) / Path(file)).parent.as_posix())
    return ImageScores(rows, confusions, digest)


def download_model(version: ModelVersion, folder: Path, is_trusted: bool = False) -> tuple[Runnable, tuple[str, ...]]:
    """Downloads a version and finds the code that may run it.

    Args:
        version: of the registry.
        folder: for the files; must not exist.
        is_trusted: whether a person allows code that only the registry has to run.

    Returns:
        The model, and the classes that it predicts, in the order of its indices.

    Raises:
        TrackingError: it cannot be downloaded.
        IncomparableError: it was not registered by segpipe, or only code that is not trusted could run it.
    """
    (folder / "model").mkdir(parents=True)
    address = f"models:/{version.name}/{version.version}"
    try:
        model = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder / "model")))
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"version {version.version} of {version.name!r} cannot be downloaded: {error}; restore its files, or "
            "promote another version (`segpipe registry promote`)"
        ) from error
    classes = classes_of_served(model)
    return find_code(version, model, folder / "sources", Path(), is_trusted), classes
