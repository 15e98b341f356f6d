"""How many pixels on the boundaries of a class lie close to a boundary of the same class in the other mask.

A pixel is on the boundary of its class if the pixel above, below, left or right of it has another class; the rim of the
image and the edge of void are no boundaries. Void pixels of the truth are void in the prediction too.

Two tolerances: 0.75% of the image's diagonal, which is the usual one (see metrics/boundary_f1.py), and 3 px, whatever
the image's size. Distances are Euclidean, between centres of pixels; a distance equal to the tolerance is close.

A distance transform of each class and mask would take longer than many networks. Here each pixel holds one bit for each
class, and all classes of an image are widened together, by OR of shifted copies.
"""

from math import hypot, isqrt

import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX
from segpipe.metrics.parts.boundary_scores import QUANTITIES, TOLERANCES
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.prediction import Masks, Prediction, without_void

AXES = ("class", "tolerance", "quantity")
SHARE_OF_DIAGONAL, TOLERANCE_PX = 0.0075, 3.0
TYPES = (np.uint8, np.uint16, np.uint32, np.uint64)
MAX_BITS = 64
STRIPE_ROWS = 256  # rows that are widened at once: they fit into a core's cache

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.unsignedinteger]


def collect(prediction: Prediction, target_NHW: Masks) -> ImageCounts:
    """Counts the boundary pixels of each image.

    Args:
        prediction: of the images.
        target_NHW: (N, H, W) uint8 class indices; void = 255.

    Returns:
        (N, num_classes, 2, 4).
    """
    tolerances_px = (SHARE_OF_DIAGONAL * hypot(*target_NHW.shape[1:]), TOLERANCE_PX)
    counts = np.zeros((len(target_NHW), prediction.num_classes, len(TOLERANCES), len(QUANTITIES)), np.int64)
    for of_image, classes_HW, target_HW in zip(counts, prediction.classes_NHW, target_NHW, strict=True):
        _count_close(target_HW, without_void(classes_HW, target_HW), tolerances_px, of_image)
    return ImageCounts.of_dense(counts, AXES)


def _count_close(truth_HW: Masks, predicted_HW: Masks, tolerances_px: tuple[float, ...], counts: Ints) -> None:
    """Adds the counts of one image to (num_classes, num_tolerances, 4)."""
    places = [find_boundary(mask_HW) for mask_HW in (truth_HW, predicted_HW)]
    classes = [mask_HW.ravel()[place] for mask_HW, place in zip((truth_HW, predicted_HW), places, strict=True)]
    num_classes = len(counts)
    for mask, classes_P in enumerate(classes):
        counts[:, :, 2 * mask] += np.bincount(classes_P, minlength=num_classes)[:, None]
    present = np.intersect1d(classes[0], classes[1])  # a class with a boundary in one mask only has no close pixel
    for first in range(0, len(present), MAX_BITS):
        some = present[first : first + MAX_BITS]
        bit_of_class = np.zeros(256, np.uint64)
        bit_of_class[some] = np.uint64(1) << np.arange(len(some), dtype=np.uint64)
        smallest = next(kind for kind in TYPES if len(some) <= 8 * kind().itemsize)
        bits = [bit_of_class[classes_P].astype(smallest) for classes_P in classes]
        for mask in range(2):
            other = np.zeros(truth_HW.size, bits[0].dtype)
            other[places[1 - mask]] = bits[1 - mask]
            for number, tolerance_px in enumerate(tolerances_px):
                widened = widen(other.reshape(truth_HW.shape), tolerance_px).ravel()
                is_close_P = np.bitwise_and(widened[places[mask]], bits[mask]) != 0
                found = np.bincount(classes[mask][is_close_P], minlength=num_classes)
                counts[:, number, 2 * mask + 1] += found


def find_boundary(mask_HW: Masks) -> Ints:
    """Gives the places of the boundary pixels of all classes in the flattened mask, increasing."""
    is_known_HW = mask_HW != IGNORE_INDEX
    is_boundary_HW = np.zeros(mask_HW.shape, np.bool_)
    for before, after in ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])):
        is_change = (mask_HW[before] != mask_HW[after]) & is_known_HW[before] & is_known_HW[after]
        is_boundary_HW[before] |= is_change
        is_boundary_HW[after] |= is_change
    return np.flatnonzero(is_boundary_HW)


def widen(bits_HW: Bits, radius_px: float) -> Bits:
    """Gives each pixel the bits of all pixels within a distance.

    Args:
        bits_HW: any unsigned type.
        radius_px: the distance.
    """
    reach = int(radius_px)
    widths = [isqrt(int(radius_px**2) - rows**2) for rows in range(reach + 1)]
    padded = np.pad(bits_HW, reach)
    height, width = bits_HW.shape
    widened_HW = np.zeros_like(bits_HW)
    for top in range(0, height, STRIPE_ROWS):
        out = widened_HW[top : top + STRIPE_ROWS]
        stripe = padded[top : top + len(out) + 2 * reach]
        row = stripe[:, reach : reach + width].copy()  # the bits within so many columns; wider step by step
        for columns in range(reach + 1):
            if columns:
                row |= stripe[:, reach - columns : reach - columns + width]
                row |= stripe[:, reach + columns : reach + columns + width]
            for rows in (rows for rows in range(reach + 1) if widths[rows] == columns):
                out |= row[reach + rows : reach + rows + len(out)]
                out |= row[reach - rows : reach - rows + len(out)]
    return widened_HW
