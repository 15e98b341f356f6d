"""The report of `evaluate`: is the model good, where, why, and on what was it measured; one file for a browser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.classes import Color
from segpipe.documents import EvaluationDescription, ModelDescription
from segpipe.metrics.parts.scores import CHIEF, list_labels, list_metrics, read_about
from segpipe.places import REPORT_PAGE
from segpipe.reports.confusion import Counts, ShownPair, make_tables
from segpipe.reports.drawing.curves import Chart, Reliability, draw_reliability
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

    @staticmethod
    def of_tables(
        name: str, num_images: int, scores: Mapping[str, Any], confusion: Counts, tables: Mapping[str, pd.DataFrame]
    ) -> "SplitScores":
        """Takes intervals, slices and reliability from the tables of an evaluation (`segpipe.metrics.tables`).

        Args:
            name: of the split.
            num_images: as the attribute.
            scores: as the attribute.
            confusion: as the attribute.
            tables: by name, the rows of all splits.
        """
        classes, slices, bins = (_rows_of(tables[table], name) for table in ("classes", "slices", "reliability"))
        filled = [row for row in bins if row["num_px"] > 0]
        error = scores["expected_calibration_error"]
        return SplitScores(
            name,
            num_images,
            scores,
            confusion,
            {row["class"]: (row["low"], row["high"]) for row in classes},
            [
                SliceScore(row["attribute"], row["value"], row["num_images"], row["mean_iou"], row["low"], row["high"])
                for row in slices
                if not row["left_out"]
            ],
            None
            if error is None
            else Reliability([row["confidence"] for row in filled], [row["accuracy"] for row in filled], error),
        )


@dataclass(frozen=True)
class SliceScore:
    """The mIoU of the images with one value of an attribute.

    Attributes:
        attribute: a column of the source, such as 'weather', or 'group'.
        value: of the attribute.
        num_images: how many images have it.
        mean_iou: 0..1; None where nothing is labelled.
        low: of the 95% interval; None where there is none.
        high: as `low`.
    """

    attribute: str
    value: str
    num_images: int
    mean_iou: float | None
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


def _rows_of(table: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """Gives the rows of a split, None for NaN."""
    rows = table[table["split"] == split].to_dict("records")
    return [{str(key): None if isinstance(v, float) and np.isnan(v) else v for key, v in row.items()} for row in rows]


def _columns_of_classes(splits: Sequence[SplitScores]) -> list[tuple[str, str, bool]]:
    """Gives the columns of the tables of classes after the IoU, every metric per class: key, label, whether a count."""
    names = [name for name in list_metrics() if read_about(name).is_per_class and name != "iou"]
    measured = [name for name in names if all(name in split.scores for split in splits)]
    return [(name, read_about(name).label, name == "support") for name in measured]


def _class_rows(
    split: SplitScores, model: ModelDescription, columns: Sequence[tuple[str, str, bool]]
) -> list[ClassRow]:
    iou = split.scores["iou"]
    rows = []
    for name, color in zip(model.classes.names, model.classes.colors, strict=True):
        values = tuple(split.scores[key][name] for key, *_ in columns)
        rows.append(ClassRow(name, color, iou[name], split.class_intervals.get(name, (None, None)), values))
    return rows


def _find_lowest(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """Gives the classes with the lowest IoU, the lowest first."""
    labelled = [row for row in rows if row.iou is not None]
    return sorted(labelled, key=lambda row: row.iou or 0.0)[:NUM_LOWEST]
