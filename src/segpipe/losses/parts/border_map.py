"""How close each pixel of a mask lies to the borders of two objects: the map of U-Net's border weights.

An object is a component of pixels of one class, connected over sides or corners. Its border is those of its pixels that
have another class, another object or void next to them; the image's edge is not a border.
"""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt
import torch

# Smaller values are zero (this is 1% of a mean class weight for w0 = 10), so only pixels near objects are computed.
NEGLIGIBLE = 1e-3

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Window = tuple[slice, slice]


def measure_closeness(target_NHW: torch.Tensor, object_classes: Iterable[int], sigma_px: float) -> torch.Tensor:
    """Gives exp(-(d1 + d2)^2 / (2 sigma^2)), d1 and d2 the distances to the nearest borders of two different objects.

    Distances are Euclidean, between centres of pixels, inside and outside of objects. Values below NEGLIGIBLE are set
    to zero. The map is computed on the CPU, image by image, in as many threads as torch uses there.

    Source: Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, equation 2.

    Args:
        target_NHW: class indices, any integer type, void = 255; on any device.
        object_classes: the classes whose components are objects.
        sigma_px: sigma, in pixels of the target.

    Returns:
        (N, H, W) float32 in 0..1, on the CPU.
    """
    masks = target_NHW.cpu().numpy().astype(np.uint8)
    chosen = frozenset(object_classes)
    with ThreadPoolExecutor(min(len(masks), torch.get_num_threads())) as pool:
        maps = list(pool.map(lambda mask: _measure_one(mask, chosen, sigma_px), masks))
    return torch.from_numpy(np.stack(maps))


def _measure_one(mask_HW: Labels, object_classes: frozenset[int], sigma_px: float) -> Floats:
    """Gives the (H, W) map of one mask."""
    reach_px = sigma_px * math.sqrt(-2 * math.log(NEGLIGIBLE))
    nearest_HW, second_HW = (np.full(mask_HW.shape, np.inf, np.float32) for _ in range(2))
    for window, is_off_border in _find_objects(mask_HW, object_classes, math.ceil(reach_px)):
        # OpenCV's last digits depend on where the result lies: torch's memory begins at multiples of 64 bytes.
        distance = torch.empty(is_off_border.shape, dtype=torch.float32).numpy()
        cv2.distanceTransform(is_off_border, cv2.DIST_L2, cv2.DIST_MASK_PRECISE, dst=distance)
        nearest, second = nearest_HW[window], second_HW[window]
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
    sum_HW = nearest_HW + second_HW
    # Beyond the reach only some windows hold a distance, so those values are dropped.
    sum_HW[sum_HW > reach_px] = np.inf
    closeness_HW: Floats = np.exp(-np.square(sum_HW) / np.float32(2 * sigma_px**2))
    return closeness_HW


def _find_objects(
    mask_HW: Labels, object_classes: frozenset[int], margin_px: int
) -> Iterator[tuple[Window, npt.NDArray[np.uint8]]]:
    """Gives each object's window, with a margin, and for the window uint8: 0 on the object's border, 1 elsewhere.

    Only an object that fills the image has no border; then there is no second object.
    """
    is_border_HW = _find_borders(mask_HW)
    present = np.flatnonzero(np.bincount(mask_HW.ravel()))  # np.unique takes more than twice as long
    for index in sorted(object_classes.intersection(present.tolist())):
        is_class_HW = (mask_HW == index).view(np.uint8)
        left, top, width, height = cv2.boundingRect(is_class_HW)
        frame = slice(top, top + height), slice(left, left + width)
        num, labels, stats, _ = cv2.connectedComponentsWithStats(is_class_HW[frame], connectivity=8)
        border_labels_HW = np.zeros(mask_HW.shape, np.int32)
        border_labels_HW[frame] = labels * is_border_HW[frame]
        for label in range(1, num):
            x, y, w, h = stats[label, : cv2.CC_STAT_AREA].tolist()
            window = (
                slice(max(0, top + y - margin_px), top + y + h + margin_px),
                slice(max(0, left + x - margin_px), left + x + w + margin_px),
            )
            yield window, (border_labels_HW[window] != label).view(np.uint8)


def _find_borders(mask_HW: Labels) -> npt.NDArray[np.bool_]:
    """Gives (H, W) bool: pixels with another value above, below, left or right of them."""
    is_border_HW = np.zeros(mask_HW.shape, bool)
    changes_down, changes_right = mask_HW[1:] != mask_HW[:-1], mask_HW[:, 1:] != mask_HW[:, :-1]
    is_border_HW[1:] |= changes_down
    is_border_HW[:-1] |= changes_down
    is_border_HW[:, 1:] |= changes_right
    is_border_HW[:, :-1] |= changes_right
    return is_border_HW
