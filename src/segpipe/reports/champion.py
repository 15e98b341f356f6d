"""The champion beside a model in the model's report: added when it is decided, because `evaluate` does not know it.

The report is an out of `evaluate`, so it depends on the model and the data alone. The decision depends on the registry,
so `register` keeps a copy of the report with the decision in it, in the training's run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from segpipe.reports.page import fill

BEGIN, END = '<section id="champion">', "</section>"
FILE_LINK = re.compile('<a href="(?!#)')
AXES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Difference:
    """A score minus the champion's on the same images.

    Attributes:
        value: -1..1.
        low: of the 95% interval; None where there is none.
        high: as `low`.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def direction(self) -> str:
        """`better` where the interval is above zero, `worse` where below, else ""."""
        if self.low is None or self.high is None:
            return ""
        return "better" if self.low > 0 else "worse" if self.high < 0 else ""


@dataclass(frozen=True)
class DecidedReport:
    """What was decided about a model.

    Attributes:
        decision: 'promoted' or 'not promoted'.
        reasons: why.
        champion: the version that was the champion; None for none.
        mean_iou: the champion's on the validation split.
        difference: of the mIoU; None where the two were not compared.
        classes: of the IoU of each class, by name.
        probability: that the model is better, 0..1.
    """

    decision: str
    reasons: Sequence[str]
    champion: str | None = None
    mean_iou: float | None = None
    difference: Difference | None = None
    classes: Mapping[str, Difference] = field(default_factory=dict)
    probability: float | None = None


def add_decision(report: str, decided: DecidedReport, folder: str = "") -> str:
    """Gives a model's report with the decision and the champion in it.

    Args:
        report: the page that `write_evaluation_report` wrote.
        decided: the decision.
        folder: where the files lie that the report links to, as seen from the copy; ends in a slash.

    Returns:
        The page; as it was where it has no place for a decision, as reports of earlier releases.
    """
    before, begin, rest = report.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return report
    extents = [abs(bound) for one in decided.classes.values() for bound in (one.value, one.low, one.high) if bound]
    limit = next((axis for axis in AXES if axis >= max(extents, default=0.0)), 1.0)
    shown = fill("champion.html.j2", decided=decided, limit=limit)
    moved = FILE_LINK.sub(lambda match: match.group() + folder, after)
    return f"{before}{begin}{shown}{end}{moved}"
