"""Where a picture lies on the earth, as the tags of a GeoTIFF say (OGC 19-008r4), for the mask of the same pixels.

The tags are copied as they are: their meaning is for the programs that draw maps. Only a picture that is turned upright
needs them changed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.data.images.tiff import GeoValue

# Section 7.1 of the standard.
PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264
GEO_KEYS, GEO_DOUBLES, GEO_ASCII = 34735, 34736, 34737
RASTER_TYPE, PIXEL_IS_POINT = 1025, 2  # a key, and its value where (0, 0) is the first pixel's centre, not its corner

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Georeference:
    """Coordinate system and place of a picture.

    Attributes:
        tags: of GeoTIFF, with their values: fractions of 64 bits, whole numbers of 16 bits, or ASCII text.
    """

    tags: Mapping[int, GeoValue]

    def turned(self, orientation: int, upright_hw: tuple[int, int]) -> "Georeference":
        """Gives the georeference of the picture turned upright: each of its pixels stays where it is on the earth.

        Args:
            orientation: of the EXIF standard, 1 to 8.
            upright_hw: height and width of the upright picture, px.
        """
        to_stored = _to_stored(orientation, upright_hw, self._is_of_centres)
        tags = dict(self.tags)
        if TRANSFORMATION in tags or PIXEL_SCALE in tags:
            matrix = self._matrix @ to_stored
            tags.pop(PIXEL_SCALE, None)
            tags.pop(TIEPOINTS, None)
            tags[TRANSFORMATION] = tuple(matrix.ravel().tolist())
        elif TIEPOINTS in tags:  # points of the picture whose place is known
            points = np.array(tags[TIEPOINTS], np.float64).reshape(-1, 6)
            upright = np.linalg.inv(to_stored) @ np.column_stack([points[:, :3], np.ones(len(points))]).T
            points[:, :3] = upright[:3].T
            tags[TIEPOINTS] = tuple(points.ravel().tolist())
        return Georeference(tags)

    @property
    def _is_of_centres(self) -> bool:
        keys = self._numbers(GEO_KEYS)
        entries = [keys[start : start + 4] for start in range(4, len(keys), 4)]
        return any(entry == (RASTER_TYPE, 0, 1, PIXEL_IS_POINT) for entry in entries)

    @property
    def _matrix(self) -> Matrix:
        """(4, 4), from (column, row, 0, 1) to the coordinate system; equations of section 7.1.3 and annex C."""
        if PIXEL_SCALE not in self.tags:
            return np.array(self._numbers(TRANSFORMATION), np.float64).reshape(4, 4)
        scale_x, scale_y, scale_z = self._numbers(PIXEL_SCALE)
        column, row, depth, x, y, z = self._numbers(TIEPOINTS)[:6]
        matrix = np.diag([scale_x, -scale_y, scale_z, 1.0])
        matrix[:3, 3] = x - column * scale_x, y + row * scale_y, z - depth * scale_z
        return matrix

    def _numbers(self, tag: int) -> tuple[float, ...]:
        value = self.tags.get(tag, ())
        return () if isinstance(value, str) else value


def find_georeference(tags: Mapping[int, GeoValue]) -> Georeference | None:
    """Checks the tags of a file that names its place.

    Args:
        tags: `TiffLayout.geo_tags`, at least one.

    Returns:
        The georeference; None if the tags are damaged.
    """
    sizes = {tag: len(value) for tag, value in tags.items()}
    places = [value for tag in (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION) if (value := tags.get(tag)) is not None]
    is_whole = (
        () not in tags.values()
        and sizes.get(PIXEL_SCALE, 3) == 3
        and sizes.get(TRANSFORMATION, 16) == 16
        and sizes.get(TIEPOINTS, 6) >= 6
        and sizes.get(TIEPOINTS, 6) % 6 == 0
        and sizes.get(GEO_KEYS, 4) >= 4
        and sizes.get(GEO_KEYS, 4) % 4 == 0
        and (PIXEL_SCALE not in sizes or TIEPOINTS in sizes)
        and all(not isinstance(value, str) and all(map(math.isfinite, value)) for value in places)
    )
    return Georeference(tags) if is_whole else None


def _to_stored(orientation: int, upright_hw: tuple[int, int], is_of_centres: bool) -> Matrix:
    """Gives the (4, 4) matrix from column and row of an upright picture to those of the stored one; undoes `turn`."""
    last_row, last_column = (side - 1 if is_of_centres else side for side in upright_hw)
    matrix = np.eye(4)
    if orientation in {2, 3, 6, 7}:
        matrix[0, 0], matrix[0, 3] = -1, last_column
    if orientation in {3, 4, 7, 8}:
        matrix[1, 1], matrix[1, 3] = -1, last_row
    return matrix[[1, 0, 2, 3]] if orientation >= 5 else matrix
