"""The results of a training and its evaluation in `build/`, read and verified."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.documents import DatasetReport, EvaluationDescription, ModelDescription
from segpipe.errors import Problem, StoreError
from segpipe.files import sha256_of_file
from segpipe.places import EVALUATION_FILE, INFERENCE_FILE, METRICS_FILE, MODEL_FILE, REPORT_FILE, WEIGHTS_FILE


@dataclass(frozen=True)
class Results:
    """The outs of preprocess, train and evaluate.

    Attributes:
        dataset_folder: holds the store and its report.
        model_folder: holds model.json and weights.safetensors.
        evaluation_folder: holds metrics.json, evaluation.json, inference.json, per_image.parquet and the report.
        model: model.json.
        metrics: metrics.json.
        evaluation: evaluation.json.
        problems: the warnings of the data set's report.
    """

    dataset_folder: Path
    model_folder: Path
    evaluation_folder: Path
    model: ModelDescription
    metrics: Mapping[str, Any]
    evaluation: EvaluationDescription
    problems: tuple[Problem, ...]

    @staticmethod
    def read(dataset_folder: Path, model_folder: Path, evaluation_folder: Path) -> "Results":
        """Reads and verifies the folders.

        Raises:
            StoreError: one is missing or damaged, they are of different trainings, or no validation pixel is labelled.
        """
        try:
            metrics = json.loads((evaluation_folder / METRICS_FILE).read_text(encoding="utf-8"))
            found = sha256_of_file(model_folder / WEIGHTS_FILE)
        except (OSError, ValueError) as error:
            raise StoreError(f"nothing to register: {error}; run `dvc repro`") from error
        report = DatasetReport.read(dataset_folder / REPORT_FILE, "run `dvc repro`")
        model = ModelDescription.read(model_folder / MODEL_FILE, "run `dvc repro`")
        evaluation = EvaluationDescription.read(evaluation_folder / EVALUATION_FILE, "run `dvc repro`")
        if not found == model.weights_sha256 == evaluation.weights_sha256:
            raise StoreError(
                f"{model_folder} and {evaluation_folder} are of two trainings (the weights differ in sha256); run "
                "`dvc repro`"
            )
        if metrics["val"]["mean_iou"] is None:
            raise StoreError(
                f"{evaluation_folder}: no pixel of the validation split is labelled, so the model has no score; "
                "choose labelled images by preprocess.split.val, and run `dvc repro`"
            )
        _check_inference(evaluation_folder / INFERENCE_FILE, evaluation.inference)
        return Results(dataset_folder, model_folder, evaluation_folder, model, metrics, evaluation, report.problems)

    def copy_model(self, folder: Path) -> None:
        """Copies the model to a new folder, with the file that says how it predicts: the files of a served model."""
        shutil.copytree(self.model_folder, folder)
        if self.evaluation.inference is not None:
            shutil.copy(self.evaluation_folder / INFERENCE_FILE, folder)

    @property
    def val_mean_iou(self) -> float:
        """The number by which champions are chosen."""
        return float(self.metrics["val"]["mean_iou"])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their indices."""
        return list(self.model.classes.names)

    @property
    def weights_bytes(self) -> int:
        """Size of the weights' file."""
        return (self.model_folder / WEIGHTS_FILE).stat().st_size


def _check_inference(path: Path, digest: str | None) -> None:
    """Checks that the model would be served as it was measured.

    Raises:
        StoreError: the file that says how it predicts is missing or was changed.
    """
    if digest is None:
        return
    try:
        found = sha256_of_file(path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; run `dvc repro`") from error
    if not found.startswith(digest):
        raise StoreError(
            f"{path}: was changed after the evaluation (its sha256 differs); run `dvc repro --force evaluate`"
        )
