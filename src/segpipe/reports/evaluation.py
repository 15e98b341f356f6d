"""The report of `evaluate`: scores, confusion matrix and sample pictures, for `dvc plots show` and for a browser."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd

from segpipe.classes import ClassTable
from segpipe.documents import ModelDescription
from segpipe.metrics.parts.scores import list_labels
from segpipe.reports.page import write_page

matplotlib.use("agg")

from matplotlib.figure import Figure  # after the choice of the backend


@dataclass(frozen=True)
class Picture:
    """One sample drawn: image, truth, prediction.

    Attributes:
        file: path within the report's folder.
        sample_id: the sample's name.
        split: the sample's split.
        mean_iou: mIoU of this sample alone.
    """

    file: str
    sample_id: str
    split: str
    mean_iou: float


def draw_confusion_matrix(confusion: npt.NDArray[np.int64], classes: ClassTable, path: Path) -> None:
    """Draws the matrix; each row is divided by the number of its class's pixels.

    Args:
        confusion: (num_classes, num_classes) pixel counts; rows are truth.
        classes: names of rows and columns.
        path: the PNG to write.
    """
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.5 * classes.num_classes
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes.num_classes), classes.names, rotation=60, ha="right", parse_math=False)
    axes.set_yticks(range(classes.num_classes), classes.names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    for row, column in np.ndindex(share.shape):
        color = "white" if share[row, column] > 0.5 else "black"
        text = f"{100 * share[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    with warnings.catch_warnings():
        # Matplotlib draws boxes for letters that no font here has. The report shows the names.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_curves(history: Path, best_epoch: int, path: Path) -> None:
    """Draws loss and mIoU over the epochs.

    Args:
        history: the folder with `train.csv` and `val.csv`, one row for each measured epoch.
        best_epoch: the epoch of the weights that were kept.
        path: the PNG to write.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("loss", "mean_iou"), ("loss", "mIoU"), strict=True):
        for split in ("train", "val"):
            rows = pd.read_csv(history / f"{split}.csv")
            axes.plot(rows["epoch"], rows[key], label=split, marker="." if len(rows) < 40 else "", linewidth=1.5)
        axes.axvline(best_epoch, color="grey", linewidth=0.8, linestyle=":", label=f"best: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.set_title(label)
        axes.grid(alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def write_evaluation_report(
    folder: Path,
    model: ModelDescription,
    metrics: Mapping[str, Any],
    num_samples: Mapping[str, int],
    pictures: Sequence[Picture],
) -> None:
    """Writes `report.html` next to `curves.png`, `confusion_matrix.png` and the pictures.

    Args:
        folder: the folder of the evaluation.
        model: model.json.
        metrics: scores of each split.
        num_samples: number of samples of each split.
        pictures: the samples drawn.
    """
    classes = model.classes
    write_page(
        folder / "report.html",
        "evaluation.html.j2",
        title="Evaluation",
        model=model.model.name,
        weights_sha256=model.weights_sha256,
        best_epoch=model.best_epoch,
        splits=list(metrics),
        metrics=metrics,
        headings=list(list_labels().items()),
        num_samples=num_samples,
        classes=list(zip(classes.names, classes.colors, strict=True)),
        pictures=pictures,
    )
