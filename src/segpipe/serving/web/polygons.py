"""The outlines of a mask's classes as polygons of GeoJSON, exact to the pixel.

Coordinates are px from the upper left corner of the picture, x to the right and y downwards; corners of pixels are
whole numbers. So a polygon covers exactly the pixels of its part of the class: its area is their number. A part is what
hangs together by sides of pixels, not by corners alone.
"""

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.classes import ClassTable

MAX_CORNERS = 200_000  # of one picture: some 2 MB of JSON

Ring = list[tuple[int, int]]  # (x, y), the first again at the end

# The four directions of a side, with the class on its right hand: east, south, west, north.
STEPS_YX = ((0, 1), (1, 0), (0, -1), (-1, 0))


class TooManyCornersError(ValueError):
    """A mask whose polygons would be larger than its pixels."""


def outline(mask: npt.NDArray[np.uint8], classes: ClassTable) -> dict[str, object]:
    """Gives a mask as a FeatureCollection of GeoJSON (RFC 7946, but in pixels): a MultiPolygon for each class in it.

    Args:
        mask: (height, width) class indices.
        classes: of the mask.

    Raises:
        TooManyCornersError: it has more than `MAX_CORNERS`.
    """
    features = []
    num_corners = 0
    for index in np.unique(mask).tolist():
        if index >= classes.num_classes:
            continue  # void
        polygons, added = _outline_class(mask == index, MAX_CORNERS - num_corners)
        num_corners += added
        features.append(
            {
                "type": "Feature",
                "properties": {"index": index, "class": classes.names[index], "color": list(classes.colors[index])},
                "geometry": {"type": "MultiPolygon", "coordinates": polygons},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _outline_class(is_class: npt.NDArray[np.bool_], max_corners: int) -> tuple[list[list[Ring]], int]:
    """Gives the polygons of a class, each a list of rings, the outer one first; and the number of their corners."""
    _, parts = cv2.connectedComponents(is_class.astype(np.uint8), connectivity=4)
    padded = np.pad(np.asarray(parts, np.int32), 1)
    starts = _corner_starts(padded)
    if 4 * len(starts) > max_corners:  # each begins two sides at least, and most are met by two more
        raise TooManyCornersError(f"its polygons have more than {MAX_CORNERS} corners")
    rows = padded.data  # single values are read from it five times as fast as from the array
    left = set(starts)
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    num_corners = 0
    for start in starts:
        if start not in left:
            continue
        part, ring = _follow(rows, left, *start)
        num_corners += len(ring)
        if _twice_area(ring) > 0:
            outer[part] = ring
        else:
            holes.setdefault(part, []).append(ring)
    return [[outer[part], *holes.get(part, [])] for part in sorted(outer)], num_corners


def _corner_starts(padded: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Gives the corners where a side to the east begins, with the class below it: each ring has at least one."""
    below, above = padded[1:, 1:-1] > 0, padded[:-1, 1:-1] > 0
    parts = padded[1:, 1:-1]
    is_side = below & ~above
    begins = is_side.copy()
    # A side goes on where its left neighbour is one of the same part.
    begins[:, 1:] &= ~(is_side[:, :-1] & (parts[:, :-1] == parts[:, 1:]))
    rows, columns = np.nonzero(begins)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _follow(padded: memoryview, left: set[tuple[int, int]], y: int, x: int) -> tuple[int, Ring]:
    """Follows a ring from a corner on, eastward first; takes the starts that it passes out of `left`."""
    part = padded[y + 1, x + 1]  # below the side, right of its direction
    begin, heading = (y, x, 0), 0
    ring: Ring = []
    while True:
        ring.append((x, y))
        if heading == 0:
            left.discard((y, x))
        step_y, step_x = STEPS_YX[heading]
        while True:
            y, x = y + step_y, x + step_x
            ahead_right, ahead_left = _ahead(heading, y, x)
            if padded[ahead_right] != part:
                heading = (heading + 1) % 4  # also where a corner alone joins two pixels: they do not hang together
                break
            if padded[ahead_left] == part:
                heading = (heading + 3) % 4
                break
        if (y, x, heading) == begin:
            ring.append(ring[0])
            return part, ring


def _ahead(heading: int, y: int, x: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Gives the padded pixels ahead of a corner, right and left of the direction."""
    if heading == 0:
        return (y + 1, x + 1), (y, x + 1)
    if heading == 1:
        return (y + 1, x), (y + 1, x + 1)
    if heading == 2:
        return (y, x), (y + 1, x)
    return (y, x + 1), (y, x)


def _twice_area(ring: Ring) -> int:
    corners = np.asarray(ring, np.int64)
    x, y = corners[:, 0], corners[:, 1]
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
