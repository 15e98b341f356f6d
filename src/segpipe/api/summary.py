"""What is known about a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.config.evaluate import Inference
from segpipe.documents import EvaluationDescription, NetworkDescription
from segpipe.errors import StoreError
from segpipe.export.exported import ExportedModel
from segpipe.inference.network import Network
from segpipe.places import EVALUATION, EVALUATION_FILE, METRICS_FILE, MODEL_FILE
from segpipe.registry.addresses import FoundModel


@dataclass(frozen=True)
class ModelSummary:
    """What is known about a model; `print` shows it.

    Attributes:
        name: of the registered model, or the folder.
        version: its number in the registry; None for a folder.
        network: the architecture, as `segpipe models` lists it.
        num_parameters: of the network; None for an export.
        classes: names of the classes, in the order of their indices.
        val_scores: on the validation images: `mean_iou`, 0..1, and, except of an export, `iou`, by class; empty where
            they are not known.
        inference: how it predicts: windows, scales, mirroring, CRF, number format.
        weights_sha256: of `weights.safetensors`; identifies the model.
    """

    name: str
    version: str | None
    network: str
    num_parameters: int | None
    classes: tuple[str, ...]
    val_scores: Mapping[str, Any]
    inference: Inference
    weights_sha256: str

    def __str__(self) -> str:
        """Some lines for people."""
        version = "" if self.version is None else f" version {self.version}"
        scores = f"{self.val_scores['mean_iou']:.4f} on its validation images" if self.val_scores else "not known"
        settings = json.dumps(self.inference.model_dump(mode="json", exclude_defaults=True))
        size = "as an ONNX export" if self.num_parameters is None else f"{self.num_parameters:,} parameters"
        lines = {
            "network": f"{self.network}, {size}",
            "classes": ", ".join(self.classes),
            "mean IoU": scores,
            "inference": "the network alone" if settings == "{}" else settings,
            "weights": self.weights_sha256,
        }
        return "\n".join([f"{self.name}{version}", *(f"  {name:<10} {value}" for name, value in lines.items())])


def summarize(network: Network, files: FoundModel) -> ModelSummary:
    """Says what is known about a trained network, by its files and, where it is registered, by its version's tags."""
    description = NetworkDescription.read(files.folder / MODEL_FILE, "run `dvc repro train`")
    return ModelSummary(
        name=files.name or str(files.folder),
        version=files.version,
        network=description.model.name,
        num_parameters=sum(parameter.numel() for parameter in network.module.parameters()),
        classes=network.classes.names,
        val_scores=_read_scores(network, files),
        inference=network.inference,
        weights_sha256=network.weights_sha256,
    )


def _read_scores(network: Network, files: FoundModel) -> dict[str, Any]:
    """Gives the scores of the registry's tags, or those of the evaluation next to a model's folder, if it is of it."""
    if files.name is not None and files.version is not None:
        from segpipe.registry.describing.scores import read_scores

        return read_scores(files.name, files.version)
    folder = files.folder.resolve().parent / EVALUATION.name
    try:
        evaluation = EvaluationDescription.read(folder / EVALUATION_FILE, "run `dvc repro evaluate`")
        if evaluation.weights_sha256 != network.weights_sha256 or evaluation.inference is not None:
            return {}
        scores = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))["val"]
        return {name: scores[name] for name in ("mean_iou", "iou")}
    except (StoreError, OSError, ValueError, KeyError):
        return {}


def summarize_export(exported: ExportedModel, folder: Path) -> ModelSummary:
    """Says what is known about an export, by its `export.json`."""
    description = exported.description
    mean_iou = description.parity.mean_iou_of_export
    return ModelSummary(
        name=str(folder),
        version=None,
        network=description.model.name,
        num_parameters=None,
        classes=description.classes.names,
        val_scores={} if mean_iou is None else {"mean_iou": mean_iou},
        inference=Inference.model_validate(description.inference),
        weights_sha256=exported.weights_sha256,
    )
