"""The type of `ABOUT`, which describes a metric in its file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """The label of a metric, and its kind of evidence.

    Attributes:
        label: name in tables.
        evidence: the name of a file of `segpipe/metrics/evidence`.
        is_per_class: whether the metric has one value for each class.
    """

    label: str
    evidence: str = "confusion"
    is_per_class: bool = False
