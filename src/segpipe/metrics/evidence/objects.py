"""Hits, misses and false pixels of each class by the size of the objects that they belong to.

An object is a region of connected pixels of one class, also over corners. A labelled pixel belongs to its object in the
truth, and is a hit or a miss of that size. A pixel that is wrongly predicted as a class belongs to its object in the
prediction, and is a false pixel of that size. So the sums over the sizes are the hits, misses and false pixels of the
class. Void pixels of the truth are void in the prediction too.

Source of the sizes: Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation: small below 32^2 px, large from 96^2.
Deviation: COCO compares boxes or masks of instances; here touching instances of one class are one object.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from segpipe.metrics.parts.histogram import count_combinations
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.object_scores import SIZES
from segpipe.metrics.parts.prediction import Masks, Prediction, without_void

AXES = ("class", "size", "quantity")
BOUNDS_PX = (32**2, 96**2)

Ints = npt.NDArray[np.int64]


def collect(prediction: Prediction, target_NHW: Masks) -> ImageCounts:
    """Counts the pixels of each image by the size of their objects.

    Args:
        prediction: of the images.
        target_NHW: (N, H, W) uint8 class indices; void = 255.

    Returns:
        (N, num_classes, 3, 3).
    """
    pairs = zip(target_NHW, prediction.classes_NHW, strict=True)
    return ImageCounts.of_dense(
        np.stack([_count_by_size(truth, classes, prediction.num_classes) for truth, classes in pairs]), AXES
    )


def _count_by_size(truth_HW: Masks, classes_HW: Masks, num_classes: int) -> Ints:
    predicted_HW = without_void(classes_HW, truth_HW)
    is_wrong_HW = (predicted_HW != truth_HW).view(np.uint8)
    combinations = [num_classes, len(SIZES), 2]
    of_truth = count_combinations([truth_HW, size_of_object(truth_HW), is_wrong_HW], combinations)
    of_predicted = count_combinations([predicted_HW, size_of_object(predicted_HW), is_wrong_HW], combinations)
    return np.concatenate([of_truth, of_predicted[:, :, 1:]], axis=2)


def size_of_object(mask_HW: Masks) -> npt.NDArray[np.uint8]:
    """Gives the size of each pixel's object, (H, W): 0 small, 1 medium, 2 large; of void any."""
    length_px, object_of_run = find_objects(mask_HW)
    area_px = np.bincount(object_of_run, weights=length_px)
    size_of_run = np.searchsorted(BOUNDS_PX, area_px[object_of_run], side="right").astype(np.uint8)
    return np.repeat(size_of_run, length_px).reshape(mask_HW.shape)


def find_objects(mask_HW: Masks) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Finds the objects of all classes at once: runs of equal pixels in each row, joined where rows touch.

    Args:
        mask_HW: (H, W) uint8; void is a class here like any other.

    Returns:
        length_px: (num_runs,) pixels of each run, row by row.
        object_of_run: (num_runs,) number of its object.
    """
    is_start_HW = np.ones(mask_HW.shape, np.bool_)
    np.not_equal(mask_HW[:, 1:], mask_HW[:, :-1], out=is_start_HW[:, 1:])
    run_HW = (np.cumsum(is_start_HW.ravel(), dtype=np.int32) - 1).reshape(mask_HW.shape)
    above, below = mask_HW[:-1], mask_HW[1:]
    is_apart = above != below
    # Of two runs that touch along many pixels the first pixel is enough: the one where either of them begins.
    is_first = (is_start_HW[:-1] | is_start_HW[1:]) & ~is_apart
    pairs = [(run_HW[:-1][is_first], run_HW[1:][is_first])]
    # Over a corner only where the two pixels between are of other classes: else the runs touch along a side.
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:, 1:], np.s_[:, :-1])):
        is_corner = (above[one] == below[other]) & is_apart[one] & is_apart[other]
        pairs.append((run_HW[:-1][one][is_corner], run_HW[1:][other][is_corner]))
    first, second = (np.concatenate(runs) for runs in zip(*pairs, strict=True))
    length_px = np.diff(np.flatnonzero(is_start_HW), append=mask_HW.size)
    graph = csr_array((np.ones(len(first)), (first, second)), (len(length_px), len(length_px)))
    return length_px, connected_components(graph, directed=False)[1]
