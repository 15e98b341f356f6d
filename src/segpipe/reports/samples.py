"""Samples as a page shows them: the image, and over it truth, prediction and errors; which samples are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX, ClassTable, Color
from segpipe.reports.drawing.overlay import colorize
from segpipe.reports.drawing.thumbnails import MAX_THUMBNAIL_PX, embed, shrink_mask, shrink_photo

WRONG: Color = (255, 0, 200)
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """A picture that lies over the image.

    Attributes:
        name: 'truth', 'prediction', 'errors', 'confidence'.
        picture: a `data:` address.
    """

    name: str
    picture: str


@dataclass(frozen=True)
class ShownSample:
    """A sample as the viewer of a page shows it.

    Attributes:
        title: why it is shown.
        caption: the split, the sample's name, its score.
        height: of the thumbnails, in px.
        width: of the thumbnails, in px.
        image: a `data:` address.
        layers: at least one; the first is shown at first.
        legend: name and colour of every class that a layer shows.
        full: path of a large picture, relative to the page; None where there is none.
    """

    title: str
    caption: str
    height: int
    width: int
    image: str
    layers: tuple[Layer, ...]
    legend: tuple[tuple[str, Color], ...]
    full: str | None = None


def choose_by_score(scores: npt.NDArray[np.float64], num_chosen: int) -> list[tuple[int, str]]:
    """Chooses samples with the lowest, the middle and the highest scores; of equal ones the first.

    Args:
        scores: (num_samples,); NaN where no pixel is labelled, and such a sample is not chosen.
        num_chosen: at most so many, a third of each kind; the lowest come first, then the highest.

    Returns:
        Index and 'worst', 'median' or 'best' of each, the lowest score first.
    """
    order = [int(index) for index in np.argsort(scores, kind="stable") if not np.isnan(scores[index])]
    num_chosen = min(num_chosen, len(order))
    num_worst = -(-num_chosen // 3)
    num_best = -(-(num_chosen - num_worst) // 2)
    num_median = num_chosen - num_worst - num_best
    start = max(num_worst, min((len(order) - num_median) // 2, len(order) - num_best - num_median))
    worst, median, best = order[:num_worst], order[start : start + num_median], order[len(order) - num_best :]
    named = (("worst", worst), ("median", median), ("best", best))
    return [(index, name) for name, indices in named for index in indices]


def show_prediction(
    image: Pixels,
    truth: Pixels,
    prediction: Pixels,
    confidence: Pixels,
    classes: ClassTable,
    *,
    title: str,
    caption: str,
    full: str | None = None,
) -> ShownSample:
    """Draws a sample with its truth, its prediction, its errors and how sure the prediction is.

    Args:
        image: (height, width, 3) uint8 RGB.
        truth: (height, width) uint8 class indices, void = 255.
        prediction: (height, width) uint8 class indices.
        confidence: (height, width) uint8, the probability of the predicted class, 255 for 1.
        classes: names and colours.
        title: as in `ShownSample`.
        caption: as in `ShownSample`.
        full: as in `ShownSample`.
    """
    image, truth, prediction = shrink_photo(image), shrink_mask(truth), shrink_mask(prediction)
    grey = np.repeat(shrink_mask(confidence)[..., None], 3, axis=2)
    is_wrong = (truth != prediction) & (truth != IGNORE_INDEX)
    layers = (
        Layer("truth", embed(colorize(truth, classes), "drawing")),
        Layer("prediction", embed(colorize(prediction, classes), "drawing")),
        Layer("errors", embed(highlight(image, is_wrong), "photo")),
        Layer("confidence", embed(grey, "photo")),
    )
    legend = (*_legend_of((truth, prediction), classes), ("wrong", WRONG))
    height, width = truth.shape
    return ShownSample(title, caption, height, width, embed(image, "photo"), layers, legend, full)


def show_labels(
    image: Pixels,
    mask: Pixels,
    classes: ClassTable,
    *,
    title: str,
    caption: str,
    max_px: int = MAX_THUMBNAIL_PX,
) -> ShownSample:
    """Draws a sample with its labels; arguments as for `show_prediction`."""
    image, mask = shrink_photo(image, max_px), shrink_mask(mask, max_px)
    layer = Layer("labels", embed(colorize(mask, classes), "drawing"))
    height, width = mask.shape
    return ShownSample(title, caption, height, width, embed(image, "photo"), (layer,), _legend_of((mask,), classes))


def show_class(image: Pixels, mask: Pixels, number: int, max_px: int) -> str:
    """Gives a small picture, a `data:` address, in which only the pixels of one class keep their colours.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8 class indices.
        number: index of the class.
        max_px: no side is longer.
    """
    image, mask = shrink_photo(image, max_px), shrink_mask(mask, max_px)
    return embed(np.where((mask == number)[..., None], image, _pale(image)), "photo")


def highlight(image: Pixels, is_marked: npt.NDArray[np.bool_]) -> Pixels:
    """Gives a picture in pale grey, in which the marked pixels are magenta.

    Args:
        image: (height, width, 3) uint8 RGB.
        is_marked: (height, width).
    """
    result = _pale(image)
    result[is_marked] = WRONG
    return result


def _pale(image: Pixels) -> Pixels:
    """Gives a picture in grey, its darkest pixels made 110 of 255."""
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.uint8)
    return np.repeat((110 + grey // 2)[..., None], 3, axis=2)


def _legend_of(masks: Sequence[Pixels], classes: ClassTable) -> tuple[tuple[str, Color], ...]:
    """Gives the classes that any of the masks holds, in the order of the table, and void where it is held."""
    present = sorted({int(value) for mask in masks for value in np.unique(mask)})
    named = [(classes.names[value], classes.colors[value]) for value in present if value != IGNORE_INDEX]
    return (*named, ("void", (0, 0, 0))) if IGNORE_INDEX in present else tuple(named)
