"""All metrics of a set of images, by their names."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from segpipe.choices import METRICS
from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.image_counts import ImageCounts

CHIEF = "mean_iou"  # chooses epochs and champions
# Raise it when the same masks would get another score: only scores of the same version are compared.
METRIC_VERSION = 1


def list_metrics() -> list[str]:
    """Gives the names of all metrics in the order of reports: the mean IoU first, the others by the alphabet."""
    return sorted(METRICS.names(), key=lambda name: (name != CHIEF, name))


def read_about(name: str) -> About:
    """Gives the `ABOUT` of a metric.

    Raises:
        ConfigError: there is no such metric.
    """
    about: About = METRICS.module_of(name).ABOUT
    return about


def list_labels() -> dict[str, str]:
    """Gives the labels of the metrics that have a single value, by name, in the order of reports."""
    abouts = {name: read_about(name) for name in list_metrics()}
    return {name: about.label for name, about in abouts.items() if not about.is_per_class}


def list_evidence() -> list[str]:
    """Gives the kinds of evidence that the metrics are computed from."""
    return sorted({read_about(name).evidence for name in list_metrics()})


def score(evidence: Mapping[str, ImageCounts], class_names: Sequence[str]) -> dict[str, Any]:
    """Computes every metric.

    Args:
        evidence: by kind; metrics of another kind are left out.
        class_names: in the order of the classes' indices.

    Returns:
        By name a number, or for a metric per class the numbers by class; None for NaN.
    """
    scores: dict[str, Any] = {}
    for name in list_metrics():
        about = read_about(name)
        if about.evidence not in evidence:
            continue
        value = METRICS.function_of(name)(evidence[about.evidence])
        if about.is_per_class:
            scores[name] = {label: _or_none(v) for label, v in zip(class_names, value.tolist(), strict=True)}
        else:
            scores[name] = _or_none(value)
    return scores


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def evaluation_digest(images_digest: str) -> str:
    """Identifies the images and the version of the metrics: only scores with equal digests may be compared.

    Args:
        images_digest: digest of the images, their labels and their class table.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.sha256(f"{images_digest} metric {METRIC_VERSION}".encode()).hexdigest()[:32]
