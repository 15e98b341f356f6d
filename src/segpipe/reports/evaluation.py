"""The report of `evaluate`: is the model good, where, why, and on what was it measured; one file for a browser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.classes import Color
from segpipe.documents import EvaluationDescription, ModelDescription
from segpipe.metrics.parts.scores import CHIEF, list_labels, list_metrics, read_about
from segpipe.places import REPORT_PAGE
from segpipe.reports.confusion import Counts, ShownPair, make_tables
from segpipe.reports.curves import Chart, Reliability, draw_reliability
from segpipe.reports.page import write_page
from segpipe.reports.parameters import list_parameters
from segpipe.reports.samples import ShownSample

NUM_LOWEST = 3
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class SplitScores:
    """What was measured on a split.

    Attributes:
        name: of the split.
        num_images: how many.
        scores: as in `metrics.json`; a metric's interval is in its keys `NAME_low` and `NAME_high`.
        confusion: (num_classes, num_classes) px, rows are truth.
        class_intervals: the 95% interval of the IoU of each class, by its name; classes without one are left out.
        slices: scores of parts of the split.
        reliability: None where it was not measured.
    """

    name: str
    num_images: int
    scores: Mapping[str, Any]
    confusion: Counts
    class_intervals: Mapping[str, Interval] = field(default_factory=dict)
    slices: Sequence["SliceScore"] = ()
    reliability: Reliability | None = None


@dataclass(frozen=True)
class SliceScore:
    """The mIoU of the images with one value of an attribute.

    Attributes:
        attribute: a column of the source, such as 'weather', or 'group'.
        value: of the attribute.
        num_images: how many images have it.
        mean_iou: 0..1.
        low: of the 95% interval; None where there is none.
        high: as `low`.
    """

    attribute: str
    value: str
    num_images: int
    mean_iou: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DatasetSummary:
    """What the report says of the data set.

    Attributes:
        licence: of the images.
        splits: name and number of samples of each.
        problems: the warnings in the data set's report, each with kind, where, what, fix.
        num_skipped: samples that were left out.
    """

    licence: str
    splits: Sequence[tuple[str, int]]
    problems: Sequence[Mapping[str, Any]] = ()
    num_skipped: int = 0


@dataclass(frozen=True)
class Drawings:
    """What the report shows in pictures.

    Attributes:
        curves: of the training.
        samples: the worst, median and best images.
        pairs: the most confused pairs of the first split.
    """

    curves: Sequence[Chart] = ()
    samples: Sequence[ShownSample] = ()
    pairs: Sequence[ShownPair] = ()


@dataclass(frozen=True)
class ClassRow:
    """A line of the table of classes.

    Attributes:
        name: of the class.
        color: RGB.
        iou: None where nothing is labelled.
        interval: of the IoU.
        figures: value of each further column.
    """

    name: str
    color: Color
    iou: float | None
    interval: Interval
    figures: tuple[float | None, ...]


def write_evaluation_report(
    folder: Path,
    model: ModelDescription,
    evaluation: EvaluationDescription,
    splits: Sequence[SplitScores],
    dataset: DatasetSummary,
    drawings: Drawings,
) -> None:
    """Writes `report.html`, which holds all that it shows.

    The same arguments give the same bytes: the page has neither times nor ids of runs. It does not know the champion;
    `segpipe.reports.champion.add_decision` adds the decision to a copy.

    Args:
        folder: the folder of the evaluation.
        model: model.json.
        evaluation: evaluation.json.
        splits: the validation split first.
        dataset: the data set.
        drawings: curves and pictures.
    """
    classes = model.classes
    columns = _columns_of_classes(splits)
    tables = [(split, _class_rows(split, model, columns)) for split in splits]
    write_page(
        folder / REPORT_PAGE,
        "evaluation.html.j2",
        title=f"Evaluation of {model.model.name}",
        model=model,
        evaluation=evaluation,
        splits=splits,
        chief=CHIEF,
        headings=[(name, label) for name, label in list_labels().items() if name != CHIEF],
        columns=columns,
        class_rows=[(split, rows, _find_lowest(rows)) for split, rows in tables],
        num_classes=classes.num_classes,
        classes=list(zip(classes.names, classes.colors, strict=True)),
        confusions=[table for split in splits for table in make_tables(split.name, split.confusion)],
        charts=[*drawings.curves, *(draw_reliability(one.name, one.reliability) for one in splits if one.reliability)],
        reliabilities=[(split.name, split.reliability) for split in splits if split.reliability],
        samples=drawings.samples,
        pairs=drawings.pairs,
        dataset=dataset,
        params=list(list_parameters({"train": model.params.train, "class_weights": model.params.class_weights})),
    )


def _columns_of_classes(splits: Sequence[SplitScores]) -> list[tuple[str, str, bool]]:
    """Gives the columns of the tables of classes after the IoU: key, label, whether it is a count.

    Every metric per class that was measured is a column, and what the confusion matrix gives besides.
    """
    from_matrix = {"precision": "precision", "recall": "recall", "f1": "F1", "support": "support, px"}
    names = [name for name in list_metrics() if read_about(name).is_per_class and name != "iou"]
    measured = {name: read_about(name).label for name in names if all(name in split.scores for split in splits)}
    labels = {**from_matrix, **measured}
    return [(name, label, name == "support") for name, label in labels.items()]


def _class_rows(
    split: SplitScores, model: ModelDescription, columns: Sequence[tuple[str, str, bool]]
) -> list[ClassRow]:
    iou = split.scores["iou"]
    figures = {**_figures_of_matrix(split.confusion, model.classes.names), **split.scores}
    rows = []
    for name, color in zip(model.classes.names, model.classes.colors, strict=True):
        values = tuple(figures[key][name] for key, *_ in columns)
        rows.append(ClassRow(name, color, iou[name], split.class_intervals.get(name, (None, None)), values))
    return rows


def _figures_of_matrix(confusion: Counts, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Gives precision, recall, F1 and support of each class; None where the divisor is 0.

    Precision = n_ii / p_i, recall = n_ii / t_i, F1 = 2 n_ii / (t_i + p_i), support = t_i.
    """
    hit, truth, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    quotients = {"precision": (hit, predicted), "recall": (hit, truth), "f1": (2 * hit, truth + predicted)}
    figures: dict[str, dict[str, float | None]] = {"support": dict(zip(names, truth.tolist(), strict=True))}
    for key, (numerator, divisor) in quotients.items():
        values = numerator / np.maximum(divisor, 1)
        is_known = (divisor > 0) & (truth > 0)
        figures[key] = {
            name: float(value) if known else None for name, value, known in zip(names, values, is_known, strict=True)
        }
    return figures


def _find_lowest(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """Gives the classes with the lowest IoU, the lowest first."""
    labelled = [row for row in rows if row.iou is not None]
    return sorted(labelled, key=lambda row: row.iou or 0.0)[:NUM_LOWEST]
