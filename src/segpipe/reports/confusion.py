"""Confusion matrices as tables and pictures, and the pairs of classes that are confused most."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import numpy.typing as npt

from segpipe.classes import ClassTable
from segpipe.reports.drawing.thumbnails import embed, shrink_photo
from segpipe.reports.samples import Pixels, highlight

matplotlib.use("agg")

from matplotlib.figure import Figure  # after the choice of the backend

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

MAX_CLASSES_PRINTED = 30  # a larger matrix is a picture without numbers
PLAIN_FIGURE_INCHES = 12.0
CELL_PX = 5
HIT, MISS, PAPER = (47, 98, 208), (192, 54, 44), (255, 255, 255)


@dataclass(frozen=True)
class ConfusionTable:
    """A confusion matrix as shares.

    Attributes:
        title: the split, and of what the cells are shares.
        explanation: how to read it.
        shares: (num_classes, num_classes), rows are truth; None where it is drawn.
        picture: a `data:` address of the matrix of many classes, or None.
    """

    title: str
    explanation: str
    shares: list[list[float]] | None
    picture: str | None


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes of which one is predicted for the other.

    Attributes:
        truth: index of the labelled class.
        predicted: index of the predicted class.
        num_px: how many pixels.
        share: of the labelled class's pixels, 0..1.
    """

    truth: int
    predicted: int
    num_px: int
    share: float


@dataclass(frozen=True)
class ShownPair:
    """A confused pair with an example.

    Attributes:
        pair: the two classes.
        caption: the image's name.
        picture: a `data:` address: the confused pixels are magenta.
    """

    pair: ConfusedPair
    caption: str
    picture: str


def divide(confusion: Counts, by: Literal["row", "column"]) -> Shares:
    """Divides each cell by the sum of its row (labelled pixels) or column (predicted pixels); 0 where that is 0."""
    axis = 1 if by == "row" else 0
    shares: Shares = confusion / np.maximum(confusion.sum(axis=axis, keepdims=True), 1)
    return shares


def make_tables(split: str, confusion: Counts) -> list[ConfusionTable]:
    """Gives a split's matrix by row and by column.

    Args:
        split: its name.
        confusion: (num_classes, num_classes) px, rows are truth.
    """
    tables = []
    for by, title, explanation in (
        ("row", "by truth", "Each row: the percentage of a class's labelled pixels that got each class."),
        ("column", "by prediction", "Each column: the percentage of a predicted class's pixels that are each class."),
    ):
        shares = divide(confusion, "row" if by == "row" else "column")
        is_printed = len(confusion) <= MAX_CLASSES_PRINTED
        picture = None if is_printed else embed(_paint(shares), "drawing")
        tables.append(
            ConfusionTable(f"{split}, {title}", explanation, shares.tolist() if is_printed else None, picture)
        )
    return tables


def _paint(shares: Shares) -> Pixels:
    """Paints each cell: hits blue, confusions red, white for 0."""
    colors = np.full((*shares.shape, 3), MISS, np.float64)
    colors[np.diag_indices(len(shares))] = HIT
    # The root makes small shares visible.
    strength = np.sqrt(shares)[..., None]
    cells = (strength * colors + (1 - strength) * np.array(PAPER)).round()
    return np.asarray(cells.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1), np.uint8)


def show_pair(pair: ConfusedPair, image: Pixels, truth: Pixels, prediction: Pixels, caption: str) -> ShownPair:
    """Draws the pixels of a pair in an image.

    Args:
        pair: the two classes.
        image: (height, width, 3) uint8 RGB.
        truth: (height, width) uint8 class indices.
        prediction: (height, width) uint8 class indices.
        caption: the image's name.
    """
    is_pair = (truth == pair.truth) & (prediction == pair.predicted)
    return ShownPair(pair, caption, embed(shrink_photo(highlight(image, is_pair)), "photo"))


def draw_confusion_matrix(confusion: Counts, classes: ClassTable, path: Path) -> None:
    """Draws the matrix for `dvc plots show`; each row is divided by the number of its class's pixels.

    Args:
        confusion: (num_classes, num_classes) pixel counts; rows are truth.
        classes: names of rows and columns.
        path: the PNG to write.
    """
    share = divide(confusion, "row")
    is_printed = classes.num_classes <= MAX_CLASSES_PRINTED
    size = 2.5 + 0.5 * classes.num_classes if is_printed else PLAIN_FIGURE_INCHES
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    if is_printed:
        axes.set_xticks(range(classes.num_classes), classes.names, rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(classes.num_classes), classes.names, parse_math=False)
        for row, column in np.ndindex(share.shape):
            color = "white" if share[row, column] > 0.5 else "black"
            text = f"{100 * share[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    with warnings.catch_warnings():
        # Matplotlib draws boxes for letters that no font here has. The report shows the names.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(path, dpi=110, metadata={"Software": None})
