"""Judges where the wrong pixels of a mask lie: resizing and compression leave them along edges."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

MIN_SHARE_ALONG_EDGES = 0.6  # not all: a thin pole mixes with its neighbours until none of its own pixels is left
MIN_SHARE_OF_RIPPLES = 0.6  # measured: interpolation up to 0.45, JPEG of any quality from 0.76
EDGE_REACH_PX, JPEG_REACH_PX = 9, 33  # sizes of the windows; a JPEG block with halved colour spreads over 16

RESIZED = "was resized with interpolation, or its edges were smoothed"
EXPORT_AGAIN = "Export it again in its original size, or resize it with nearest neighbour"
COMPRESSED = "was compressed with loss (JPEG), or resized with a filter that sharpens"
EXPORT_LOSSLESS = "Export it again as PNG from the annotation tool; the lost values cannot be restored from this file"


def _known_bounds(
    pixels: npt.NDArray[Any], is_wrong: npt.NDArray[np.bool_], window_px: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Gives the lowest and highest known value around each pixel, in each channel; low > high if there is none."""
    kernel = np.ones((window_px, window_px), np.uint8)
    is_hidden = is_wrong if pixels.ndim == 2 else is_wrong[..., None]
    highest = np.iinfo(pixels.dtype).max
    low = cv2.erode(np.where(is_hidden, highest, pixels).astype(pixels.dtype), kernel)
    high = cv2.dilate(np.where(is_hidden, 0, pixels).astype(pixels.dtype), kernel)
    return low, high


def is_along_edges(pixels: npt.NDArray[Any], is_wrong: npt.NDArray[np.bool_]) -> bool:
    """Tells whether wrong pixels are mixtures of the right values on both sides of an edge.

    Args:
        pixels: (height, width) values or (height, width, 3) colours, uint8 or uint16.
        is_wrong: (height, width), where they are unknown; at least one.
    """
    low, high = _known_bounds(pixels, is_wrong, EDGE_REACH_PX)
    is_mixed = _of_all_channels((pixels >= low) & (pixels <= high)) & ~_of_all_channels(low >= high)
    return bool(is_mixed[is_wrong].mean() >= MIN_SHARE_ALONG_EDGES)


def is_near_edges(pixels: npt.NDArray[Any], is_wrong: npt.NDArray[np.bool_]) -> bool:
    """Tells whether wrong pixels lie near edges, within the reach of a JPEG block, and most others are right.

    Args:
        pixels: as in `is_along_edges`.
        is_wrong: as in `is_along_edges`.
    """
    low, high = _known_bounds(pixels, is_wrong, JPEG_REACH_PX)
    is_edge = ~_of_all_channels(low >= high)
    return bool(is_wrong.mean() < 0.5 and is_edge[is_wrong].mean() >= MIN_SHARE_ALONG_EDGES)


def is_rippled(values: npt.NDArray[Any], is_wrong: npt.NDArray[np.bool_]) -> bool:
    """Tells whether wrong pixels go up and down, as JPEG's waves do; interpolation climbs from one side to the other.

    Args:
        values: (height, width), uint8 or uint16.
        is_wrong: as in `is_along_edges`.
    """
    is_extreme = np.zeros(values.shape, np.bool_)
    signed = values.astype(np.int32)
    rows, columns = np.diff(signed, axis=0), np.diff(signed, axis=1)
    is_extreme[1:-1] |= rows[:-1] * rows[1:] < 0
    is_extreme[:, 1:-1] |= columns[:, :-1] * columns[:, 1:] < 0
    return bool(is_extreme[is_wrong].mean() >= MIN_SHARE_OF_RIPPLES)


def _of_all_channels(is_so: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return is_so if is_so.ndim == 2 else np.asarray(is_so.all(axis=2))
