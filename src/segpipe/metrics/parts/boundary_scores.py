"""The boundary F1 of a set of images, from the boundary pixels of each."""

import numpy as np

from segpipe.metrics.parts.counts import mean_of_present
from segpipe.metrics.parts.image_counts import ImageCounts

TOLERANCES = ("share", "px")
# Boundary pixels of the truth, those of them close to the prediction's boundary, and the same the other way round.
QUANTITIES = ("truth", "truth_close", "predicted", "predicted_close")


def mean_boundary_f1(evidence: ImageCounts, tolerance: str) -> float:
    """Gives the mean over the images of the mean F1 over the classes with a boundary in the image's truth.

    Args:
        evidence: (class, tolerance, quantity) of each image.
        tolerance: one of `TOLERANCES`.

    Returns:
        0..1; NaN if no image has a boundary.
    """
    num_classes = evidence.shape[0]
    is_mine = evidence.along("tolerance") == TOLERANCES.index(tolerance)
    of_row = (evidence.image * num_classes + evidence.along("class"))[is_mine]
    pairs, row = np.unique(of_row, return_inverse=True)  # the pairs of image and class that have any count
    counts = np.zeros((len(QUANTITIES), len(pairs)))
    counts[evidence.along("quantity")[is_mine], row] = evidence.pixels[is_mine]
    truth, truth_close, predicted, predicted_close = counts[:, counts[0] > 0]
    recall = truth_close / truth
    precision = predicted_close / np.maximum(predicted, 1)
    f1 = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
    image = pairs[counts[0] > 0] // num_classes
    num_f1 = np.bincount(image, minlength=evidence.num_images)
    sums = np.bincount(image, weights=f1, minlength=evidence.num_images)
    return mean_of_present(sums[num_f1 > 0] / num_f1[num_f1 > 0])
