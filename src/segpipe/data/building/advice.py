"""What to write into the class table, where the masks of a set have faults of one cause."""

from collections.abc import Sequence

from segpipe.data.sources.proposed_table import describe_changes
from segpipe.data.sources.source import Source
from segpipe.data.sources.survey import survey_masks
from segpipe.errors import Problem

KINDS_OF_TABLE = frozenset({"mask-mode", "mask-values", "mask-colors", "mask-binary", "mask-binary-void"})
STRAY = "mask-blended"  # values that nobody meant


def advise(source: Source, problems: Sequence[Problem]) -> str:
    """Gives the lines of a class table that would fix the problems.

    Args:
        source: what the reader found.
        problems: those of its samples.

    Returns:
        What the masks hold and the lines to write; '' if the problems have other causes, or the format itself says what
        the masks mean.
    """
    kinds = {problem.kind for problem in problems}
    if source.coding is None or not kinds & KINDS_OF_TABLE or STRAY in kinds:
        return ""
    masks = sorted({sample.label.files[0] for sample in source.samples})
    return describe_changes(survey_masks(masks), source.coding)
