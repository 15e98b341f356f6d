"""Boundary F1 (BF) with a tolerance of 3 px, whatever the size of the image.

The formula and its sources are those of `boundary_f1.py`, whose tolerance grows with the image.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.boundary_scores import mean_boundary_f1
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("boundary F1, 3 px", evidence="boundaries")


def compute(evidence: ImageCounts) -> float:
    """Gives the boundary F1, 0..1; NaN if no image has a boundary.

    Args:
        evidence: boundary pixels.
    """
    return mean_boundary_f1(evidence, "px")
