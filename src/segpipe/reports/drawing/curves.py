"""Charts as SVG that a page holds: their colours are the page's, so they fit light and dark."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup

matplotlib.use("agg")

from matplotlib.axes import Axes  # after the choice of the backend
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Matplotlib knows no CSS variables, so each colour of the page has a stand-in, which is replaced in the SVG.
STAND_INS = {"#010203": "currentColor", "#010204": "var(--line)", "#010205": "var(--first)", "#010206": "var(--second)"}
INK, LINE, FIRST, SECOND = STAND_INS
SIZE_INCHES = (5.2, 3.0)
MAX_POINTS_MARKED = 40
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay text
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Attributes:
        title: what it shows.
        svg: the drawing.
    """

    title: str
    svg: Markup


@dataclass(frozen=True)
class Reliability:
    """How often predictions of each confidence are right.

    Attributes:
        confidence: mean confidence of each bin, 0..1.
        accuracy: share of right pixels in each bin, 0..1.
        expected_calibration_error: mean difference of the two, weighted by pixels, 0..1.
    """

    confidence: Sequence[float]
    accuracy: Sequence[float]
    expected_calibration_error: float


def draw_curves(history: Path, best_epoch: int) -> list[Chart]:
    """Draws loss and mIoU over the epochs.

    Args:
        history: the folder with `train.csv` and `val.csv`, one row for each measured epoch.
        best_epoch: the epoch of the weights that were kept.
    """
    rows = {split: pd.read_csv(history / f"{split}.csv") for split in ("train", "val")}
    charts = []
    for key, title, factor in (("loss", "loss", 1), ("mean_iou", "mIoU, %", 100)):
        with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": key}):
            figure, axes = _begin("epoch")
            for (split, table), color in zip(rows.items(), (FIRST, SECOND), strict=True):
                marker = "o" if len(table) <= MAX_POINTS_MARKED else ""
                values = table[key] * factor
                axes.plot(table["epoch"], values, label=split, color=color, marker=marker, markersize=3, linewidth=1.8)
            axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", label=f"kept: epoch {best_epoch}")
            axes.legend()
            charts.append(Chart(title, _finish(figure)))
    return charts


def draw_reliability(split: str, reliability: Reliability) -> Chart:
    """Draws accuracy over confidence; on the diagonal a confidence says how often it is right.

    Args:
        split: its name.
        reliability: the bins with pixels, in rising confidence.
    """
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": f"reliability {split}"}):
        figure, axes = _begin("confidence, %")
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":", label="right as often as sure")
        confidence, accuracy = (
            [100 * value for value in one] for one in (reliability.confidence, reliability.accuracy)
        )
        axes.plot(confidence, accuracy, color=FIRST, marker="o", markersize=3, linewidth=1.8, label=split)
        axes.set_ylabel("right, %")
        axes.legend()
        return Chart(f"reliability, {split}", _finish(figure))


def _begin(x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(linewidth=0.6)
    axes.tick_params(length=0)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes


def _finish(figure: Figure) -> Markup:
    """Gives the drawing as an element of a page, without a date, with the page's fonts and colours."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' id="[a-z0-9]+(\.[a-z]+)*_\d+"', "", svg)  # the same in every chart, and nothing refers to them
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    for stand_in, color in STAND_INS.items():
        svg = svg.replace(stand_in, color)
    # The width in points would be wider than a phone; the page's style gives one.
    svg = re.sub(r'^<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg class="chart" viewBox="\1" aria-hidden="true">', svg)
    # Inside a page, SVG needs no namespace: not of links either.
    return Markup(svg.replace("xlink:href", "href"))
