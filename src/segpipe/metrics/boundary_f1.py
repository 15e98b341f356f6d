"""Boundary F1 (BF) with a tolerance of 0.75% of the image's diagonal, as in the sources.

    F1 of an image and class = 2 P R / (P + R)

P is the share of the predicted boundary's pixels that are close to the true boundary of the class, R the share of the
true boundary's pixels that are close to the predicted one. The score of an image is the mean over the classes with a
boundary in its truth, that of a set is the mean over the images: so the sources define it, unlike all other metrics
here. `evidence/boundaries.py` says which pixels are boundary pixels.

Sources: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013, section
2.2; Badrinarayanan, Kendall, Cipolla, "SegNet", TPAMI 2017, section 4.
"""

from segpipe.metrics.parts.about import About
from segpipe.metrics.parts.boundary_scores import mean_boundary_f1
from segpipe.metrics.parts.image_counts import ImageCounts

ABOUT = About("boundary F1, 0.75% of diagonal", evidence="boundaries")


def compute(evidence: ImageCounts) -> float:
    """Gives the boundary F1, 0..1; NaN if no image has a boundary.

    Args:
        evidence: boundary pixels.
    """
    return mean_boundary_f1(evidence, "share")
