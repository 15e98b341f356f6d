"""What was counted in each image, as a sparse table: only the cells that are not zero.

A confusion matrix of 171 classes has 29,241 cells, of which an image fills some dozens. So the counts of 100,000 images
take some hundred megabytes instead of 23 GB.

As parquet: `image`, one column for each axis, `pixels`; a row a cell. The lengths of the axes are in the file's own
metadata, under `segpipe`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

METADATA = b"segpipe"


@dataclass(frozen=True)
class ImageCounts:
    """Counts of a set of images, sorted by image and cell.

    Attributes:
        axes: names of the axes of an image's table, for example ('truth', 'predicted').
        shape: their lengths.
        num_images: number of images, those without a count included.
        image: (num_rows,) int64, 0..num_images - 1, not decreasing.
        cell: (num_rows,) int64, the place in the flattened table of the image; increasing within an image.
        pixels: (num_rows,) int64, or float64 where numbers of pixels are added up with weights; never 0.
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    num_images: int
    image: Ints
    cell: Ints
    pixels: Values

    @staticmethod
    def of_dense(counts: Values, axes: tuple[str, ...]) -> "ImageCounts":
        """Takes the cells that are not zero.

        Args:
            counts: (num_images, *shape) int64 or float64.
            axes: names of the axes after the first.
        """
        num_images = len(counts)
        flat = counts.reshape(num_images, int(np.prod(counts.shape[1:])))
        image, cell = np.nonzero(flat)
        return ImageCounts(axes, counts.shape[1:], num_images, image, cell, flat[image, cell])

    @staticmethod
    def join(parts: Sequence["ImageCounts"]) -> "ImageCounts":
        """Puts sets of images one after another.

        Args:
            parts: of the same axes and shape; at least one.
        """
        starts = np.cumsum([0, *(part.num_images for part in parts)])
        return ImageCounts(
            parts[0].axes,
            parts[0].shape,
            int(starts[-1]),
            np.concatenate([part.image + start for part, start in zip(parts, starts[:-1], strict=True)]),
            np.concatenate([part.cell for part in parts]),
            np.concatenate([part.pixels for part in parts]),
        )

    def total(self) -> Values:
        """The sum over all images, of `shape`."""
        return _add_up(self.cell, self.pixels, self.shape)

    def dense(self) -> Values:
        """The table of each image, (num_images, *shape); for few images or short axes."""
        num_cells = int(np.prod(self.shape))
        return _add_up(self.image * num_cells + self.cell, self.pixels, (self.num_images, *self.shape))

    def along(self, axis: str) -> Ints:
        """The place on an axis of each row, (num_rows,)."""
        return np.unravel_index(self.cell, self.shape)[self.axes.index(axis)].astype(np.int64, copy=False)

    def between(self, begin: int, end: int) -> "ImageCounts":
        """The images begin, ..., end - 1."""
        first, last = np.searchsorted(self.image, [begin, end])
        rows = slice(first, last)
        image = self.image[rows] - begin
        return ImageCounts(self.axes, self.shape, end - begin, image, self.cell[rows], self.pixels[rows])

    def take(self, images: npt.ArrayLike) -> "ImageCounts":
        """Some images in another order.

        Args:
            images: (num_taken,) their numbers, each at most once.
        """
        wanted = np.asarray(images, np.int64)
        place = np.full(self.num_images, -1)
        place[wanted] = np.arange(len(wanted))
        return self._renumbered(place, len(wanted))

    def merge(self, unit_of_image: Ints, num_units: int) -> "ImageCounts":
        """The sums over units of images.

        Args:
            unit_of_image: (num_images,) 0..num_units - 1.
            num_units: number of units.
        """
        joined = self._renumbered(np.asarray(unit_of_image, np.int64), num_units)
        if not len(joined.cell):
            return joined
        is_new = np.empty(len(joined.cell), np.bool_)
        is_new[0] = True
        is_new[1:] = (np.diff(joined.image) != 0) | (np.diff(joined.cell) != 0)
        first = np.flatnonzero(is_new)
        pixels = np.add.reduceat(joined.pixels, first)
        return ImageCounts(self.axes, self.shape, num_units, joined.image[first], joined.cell[first], pixels)

    def _renumbered(self, number_of_image: Ints, num_images: int) -> "ImageCounts":
        """Gives the images new numbers; those of number -1 are left out, those of one number lie next to each other."""
        image, cell, pixels = number_of_image[self.image], self.cell, self.pixels
        if (image < 0).any():
            is_kept = image >= 0
            image, cell, pixels = image[is_kept], cell[is_kept], pixels[is_kept]
        key = image * int(np.prod(self.shape)) + cell
        if (np.diff(key) < 0).any():
            order = np.argsort(key, kind="stable")
            image, cell, pixels = image[order], cell[order], pixels[order]
        return ImageCounts(self.axes, self.shape, num_images, image, cell, pixels)

    def write(self, path: Path) -> None:
        """Writes the parquet file."""
        places = np.unravel_index(self.cell, self.shape)
        columns = {name: place.astype(np.int16) for name, place in zip(self.axes, places, strict=True)}
        table = pa.table({"image": self.image.astype(np.int32), **columns, "pixels": self.pixels})
        described = {"axes": self.axes, "shape": self.shape, "num_images": self.num_images}
        pq.write_table(table.replace_schema_metadata({METADATA: json.dumps(described)}), path)

    @staticmethod
    def read(path: Path) -> "ImageCounts":
        """Reads the parquet file.

        Raises:
            OSError: it is missing.
            ValueError: it has other content.
        """
        table = pq.read_table(path)
        try:
            described = json.loads((table.schema.metadata or {})[METADATA])
            axes, shape = tuple(described["axes"]), tuple(described["shape"])
            places = tuple(table.column(name).to_numpy().astype(np.int64) for name in axes)
            image = table.column("image").to_numpy().astype(np.int64)
            cell = np.ravel_multi_index(places, shape).astype(np.int64)
            return ImageCounts(
                axes, shape, int(described["num_images"]), image, cell, table.column("pixels").to_numpy()
            )
        except KeyError as error:
            raise ValueError(f"{path}: holds no counts of images: {error}") from error


def _add_up(place: Ints, pixels: Values, shape: tuple[int, ...]) -> Values:
    """Gives sums by place; floats of 53 bits hold whole pixels exactly."""
    summed = np.bincount(place, weights=pixels, minlength=int(np.prod(shape)))
    return summed.astype(pixels.dtype).reshape(shape)
