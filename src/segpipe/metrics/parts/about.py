"""The type of `ABOUT`, which describes a metric in its file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """How a metric is called, and what it needs.

    Attributes:
        label: name in tables.
        evidence: a file of `segpipe/metrics/evidence`.
        is_per_class: whether there is a value for each class instead of one.
    """

    label: str
    evidence: str = "confusion"
    is_per_class: bool = False
