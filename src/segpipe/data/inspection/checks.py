"""Checks decoded samples for faults that no decoder notices, because the files themselves are intact.

Every sample is checked, so each check is a few passes over the pixels. Slower checks run only after one of these has
found something.
"""

from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.histogram import count_values
from segpipe.faults import Fault

SAMPLE_STEP_PX = 4
MAX_DEVIATION_OF_CONSTANT = 2.0

# A broken copy ends in what the decoder put in place of the missing rows: JPEG's middle grey, or black.
FILLINGS = {"grey": (125, 131), "black": (0, 2)}
MIN_FLAT_ROWS, MIN_FLAT_SHARE = 8, 0.02

# Measured for the masks of the starter and of CamVid: at most 0.03; shrunk to a quarter by nearest neighbour at most
# 0.08; resized with interpolation by factors of 0.2 to 6 at least 0.20.
MAX_SEAM_SHARE, MIN_SEAM_PX = 0.14, 24
MAX_FEW_PX = 16
NEAREST_NEIGHBOUR = "Export the mask in the image's size (nearest neighbour, never interpolated)"


def check_sample(image: npt.NDArray[np.uint8] | None, mask: npt.NDArray[np.uint8] | None) -> list[Fault]:
    """Looks for what is wrong with a sample's pixels.

    Args:
        image: (height, width, 3) uint8 RGB; None if it could not be read.
        mask: (height, width) uint8 class indices, void = 255; None if it could not be read.

    Returns:
        All faults; those of kind `image-...` are the image's, the others the mask's.
    """
    is_of_one_size = image is None or mask is None or image.shape[:2] == mask.shape
    found: list[Fault | None] = []
    if image is not None:
        found += [_find_constant(image), _find_grey_part(image, mask if is_of_one_size else None)]
    if mask is not None:
        found += [_find_one_class(mask), _find_seams(mask)]
    if image is not None and mask is not None and not is_of_one_size:
        found.append(Fault("size-mismatch", *_compare_sizes(mask.shape, image.shape)))
    return [fault for fault in found if fault is not None]


def _find_constant(image: npt.NDArray[np.uint8]) -> Fault | None:
    part = image[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX]
    _, deviation = cv2.meanStdDev(part)
    if deviation.max() >= MAX_DEVIATION_OF_CONSTANT:
        return None
    # A small object may lie between the pixels of the subset.
    mean, deviation = cv2.meanStdDev(image)
    if deviation.max() >= MAX_DEVIATION_OF_CONSTANT:
        return None
    color = ", ".join(str(round(float(value))) for value in mean.ravel())
    what = f"is nearly of one colour: RGB {color}, standard deviation {float(deviation.max()):.1f}"
    return Fault("image-constant", what, "Look at it; it may be a covered lens or a failed export")


def _find_grey_part(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None) -> Fault | None:
    """Finds the flat lower part of a broken copy that a program has read without an error and saved again."""
    filling = next((name for name, (low, high) in FILLINGS.items() if _is_flat(image[-1:], low, high)), None)
    if filling is None:
        return None
    low, high = FILLINGS[filling]
    is_flat_row = (image.min(axis=(1, 2)) >= low) & (image.max(axis=(1, 2)) <= high)
    num_rows = len(image) if is_flat_row.all() else int(np.argmin(is_flat_row[::-1]))
    is_framed = filling == "black" and bool(is_flat_row[0])  # bars above and below, as films have them
    is_void = mask is not None and bool((mask[len(image) - num_rows :] == IGNORE_INDEX).all())
    if num_rows == len(image) or num_rows < max(MIN_FLAT_ROWS, MIN_FLAT_SHARE * len(image)) or is_framed or is_void:
        return None
    pixels = np.zeros(image.shape[:2], np.bool_)
    pixels[len(image) - num_rows :] = True
    what = f"is flat {filling} in its last {num_rows} of {len(image)} rows, as a truncated file that was saved again"
    return Fault("image-grey-part", what, "Replace it by an intact copy, or make these rows void in its mask", pixels)


def _is_flat(rows: npt.NDArray[np.uint8], low: int, high: int) -> bool:
    return bool(rows.min() >= low and rows.max() <= high)


def _find_one_class(mask: npt.NDArray[np.uint8]) -> Fault | None:
    labelled = mask[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX]
    labelled = labelled[labelled != IGNORE_INDEX]
    if labelled.size and labelled.min() != labelled.max():
        return None
    present = np.flatnonzero(count_values(mask)).tolist()
    classes = [index for index in present if index != IGNORE_INDEX]
    if not classes:
        return Fault("mask-void", "has no labelled pixel: all are void", "Label it, or remove the sample")
    if len(classes) > 1:
        return None
    if IGNORE_INDEX in present:
        what = f"holds only class {classes[0]} and void"
        return Fault("mask-constant", what, "Look at it; in a 0/255 mask 255 would be a class, not void")
    what = f"holds only class {classes[0]}"
    fix = "Look at it; an empty export, or 16-bit values cut to 8 bits, look like this"
    return Fault("mask-constant", what, fix)


def _find_seams(mask: npt.NDArray[np.uint8]) -> Fault | None:
    """Finds edges that pass through the classes in between, as interpolation of class indices makes them.

    A seam is a pixel strictly between its two neighbours in a row or column. Drawn masks jump from class to class;
    interpolated ones climb. One-pixel poles are seams too, but few compared with all changes of class.
    """
    horizontal = mask[:, 1:] > mask[:, :-1], mask[:, 1:] < mask[:, :-1]
    vertical = mask[1:] > mask[:-1], mask[1:] < mask[:-1]
    seams = [change[:, 1:] & change[:, :-1] for change in horizontal]
    seams += [change[1:] & change[:-1] for change in vertical]
    num_seams = sum(int(np.count_nonzero(part)) for part in seams)
    if num_seams < MIN_SEAM_PX:
        return None
    num_changes = sum(int(np.count_nonzero(change)) for change in (*horizontal, *vertical))
    if num_seams <= MAX_SEAM_SHARE * num_changes:
        return None
    pixels = np.zeros(mask.shape, np.bool_)
    pixels[:, 1:-1] |= seams[0] | seams[1]
    pixels[1:-1] |= seams[2] | seams[3]
    what = (
        f"was resized with interpolation or compressed with loss: {np.count_nonzero(pixels)} px along edges have a "
        f"class between their neighbours' ({num_seams} seams, {num_changes} changes)"
    )
    fix = "Export it again, resized with nearest neighbour; if a class is a thin outline, set its action to warn"
    return Fault("mask-seams", what, fix, pixels)


def _compare_sizes(mask_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> tuple[str, str]:
    """Says how a mask's size differs from its image's, and how to fix it."""
    (mask_height, mask_width), (height, width) = mask_shape[:2], image_shape[:2]
    sizes = f"is {mask_width}x{mask_height}, its image {width}x{height}"
    if (mask_height, mask_width) == (width, height):
        return f"{sizes}: width and height exchanged", "Turn the wrong one (often its EXIF entry was lost)"
    scale = mask_width / width
    if abs(mask_height - scale * height) <= 1 and abs(mask_width - width) > 2:
        ratio = Fraction(scale).limit_denominator(16)
        is_exact = ratio * width == mask_width and ratio * height == mask_height
        words = {Fraction(1, 2): "half of it", Fraction(1, 4): "a quarter of it", Fraction(2): "twice it"}
        factor = words.get(ratio, f"{ratio} of it") if is_exact else f"{scale:.3g} of it"
        return f"{sizes}: {factor} in each direction", NEAREST_NEIGHBOUR
    if abs(mask_height - height) <= MAX_FEW_PX and abs(mask_width - width) <= MAX_FEW_PX:
        what = f"{sizes}: cut or padded by {abs(mask_width - width)} and {abs(mask_height - height)} px"
        return what, "Export it without the padding or cut that one of them has, or in the image's size"
    return f"{sizes}: of another shape", "It may belong to another image; if not, export it in the image's size"
