"""Pictures of faults: the image with the pixels concerned in magenta, small enough to be kept for a report."""

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.faults import Fault

LOUD_RGB = (255, 0, 255)
QUIET = 0.55  # how much of the image's brightness stays around the marks
MAX_SIDE_PX = 480
SURROUNDINGS_PX, MAX_ZOOM = 24, 8
# Colour in full resolution: otherwise a single marked pixel would fade.
JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
)  # fmt: skip
CHECKER_PX, CHECKER_GREYS = 8, (130, 160)
GREY_STEP = 37  # separates the greys of neighbouring class indices; wraps around

Picture = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.bool_]
Window = tuple[slice, slice]


def mark_fault(image: Picture | None, mask: Picture | None, fault: Fault) -> bytes | None:
    """Draws where a fault is seen.

    Args:
        image: (height, width, 3) uint8 RGB; None, or of another size than the fault's pixels: not drawn.
        mask: (height, width) uint8; drawn in greys if there is no image.
        fault: with the pixels concerned.

    Returns:
        A JPEG of at most 480x480 px, cut out and enlarged if the place is small; None if the fault has no place.
    """
    if fault.pixels is None or not fault.pixels.any():
        return None
    window = _window_around(fault.pixels)
    is_marked = _resize_marks(fault.pixels[window])
    return encode_picture(_mark(_ground_of(image, mask, fault.pixels.shape, window, is_marked.shape), is_marked))


def encode_picture(picture: Picture) -> bytes:
    """Gives a (height, width, 3) uint8 RGB picture as JPEG, shrunk to at most 480x480 px."""
    height, width = picture.shape[:2]
    shrink = min(1.0, MAX_SIDE_PX / max(height, width))
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), JPEG_OPTIONS)
    return content.tobytes()


def _ground_of(
    image: Picture | None, mask: Picture | None, shape: tuple[int, ...], window: Window, shown_hw: tuple[int, ...]
) -> Picture:
    """Gives what the marks are drawn on: the window of the image, else of the mask in greys, else a checkerboard."""
    size = shown_hw[1], shown_hw[0]
    if image is not None and image.shape[:2] == shape:
        part = image[window]
        is_shrunk = part.shape[0] > shown_hw[0]
        return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA if is_shrunk else cv2.INTER_NEAREST))
    if mask is not None and mask.shape == shape:
        greys = cv2.resize(mask[window], size, interpolation=cv2.INTER_NEAREST) * np.uint8(GREY_STEP)
    else:
        rows, columns = np.indices(shown_hw) // CHECKER_PX
        greys = np.where((rows + columns) % 2 == 0, *CHECKER_GREYS).astype(np.uint8)
    return np.repeat(greys[..., None], 3, axis=2)


def _window_around(pixels: Pixels) -> Window:
    """Gives the part to show: around the marks with a margin, and square if there is room."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 + 2 * SURROUNDINGS_PX
    spans = []
    for marked, length in ((rows, pixels.shape[0]), (columns, pixels.shape[1])):
        size = min(length, int(side))
        first = int(np.clip((marked[0] + marked[-1] + 1 - size) // 2, 0, length - size))
        spans.append(slice(first, first + size))
    return spans[0], spans[1]


def _resize_marks(pixels: Pixels) -> Pixels:
    height, width = pixels.shape
    scale = min(MAX_ZOOM, MAX_SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale >= 1:
        return cv2.resize(pixels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    # A single wrong pixel in a large image must stay visible.
    share = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.dilate((share > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _mark(ground: Picture, is_marked: Pixels) -> Picture:
    marked = (ground * QUIET).astype(np.uint8)
    marked[is_marked] = LOUD_RGB
    return marked
