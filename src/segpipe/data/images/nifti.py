"""Reads one slice of a NIfTI file, by nibabel: its values with the file's scale."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.data.images.formats import KindError

SCALED_BYTES = 8  # scaled values are fractions of 64 bits


def measure_nifti(path: Path) -> tuple[int, int, int]:
    """Reads height and width in px, and the bytes that a pixel takes while it is read; 1 for 8-bit values.

    Raises:
        KindError: it is a volume.
        ValueError and others: it is damaged.
    """
    image = _open(path)
    width, height = _plane_of(image.shape)
    is_scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    return height, width, SCALED_BYTES if is_scaled else image.get_data_dtype().itemsize


def read_nifti(path: Path) -> npt.NDArray[Any]:
    """Reads a file of one slice. Its first axis is the column, its second one the row, as in other programs.

    Returns:
        (height, width, 1); fractions where the file states a scale.

    Raises:
        KindError: it is a volume, or does not hold numbers.
        ValueError and others: it is damaged.
    """
    image = _open(path)
    width, height = _plane_of(image.shape)
    values: npt.NDArray[Any] = np.asanyarray(image.dataobj).reshape(width, height)
    if values.dtype.kind not in "iuf":
        raise KindError(f"is a NIfTI file of {values.dtype}", "Save one number for each pixel")
    return values.T[..., None]


def _open(path: Path) -> Any:
    """Gives nibabel's image, whose values are not read yet.

    Raises:
        ValueError: it is no NIfTI file.
    """
    import nibabel
    from nibabel import imageglobals
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    imageglobals.logger.setLevel(logging.CRITICAL)  # it names faults without the file
    try:
        return nibabel.load(path)
    except (ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError) as error:
        raise ValueError("it is no NIfTI file, or its beginning is damaged") from error


def _plane_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Gives the two axes that are longer than 1; of a row or a single pixel, the first two.

    Raises:
        KindError: there are more.
    """
    long = [side for side in shape if side != 1]
    if len(long) > 2:
        sizes = "x".join(map(str, shape))
        fix = "Save each slice that is wanted: `numpy.save('NAME.npy', nibabel.load('FILE').dataobj[:, :, NUMBER].T)`"
        raise KindError(f"is a NIfTI volume of {sizes} values; an image has two dimensions", fix)
    plane = tuple(long) if len(long) == 2 else (*shape, 1, 1)[:2]
    if math.prod(plane) != math.prod(shape) or 0 in plane:
        raise ValueError(f"its shape {shape} is no image's")
    return plane[0], plane[1]
