"""Reads one slice of a NIfTI file, by nibabel: its values with the file's scale."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.data.images.formats import KindError

SCALED_BYTES = 8  # scaled values are fractions of 64 bits
MAX_BYTES_BEFORE_VALUES = 16 << 20  # of a compressed file all are inflated on the way to the values


def measure_nifti(path: Path) -> tuple[int, int, int]:
    """Reads height and width in px, and the bytes that a pixel takes while it is read; 1 for 8-bit values.

    Raises:
        KindError: it is a volume, or has too much before its values.
        ValueError and others: it is damaged.
    """
    stored = _open(path)
    width, height = _plane_of(stored.shape)
    is_scaled = (stored.slope, stored.inter) != (1, 0)
    return height, width, SCALED_BYTES if is_scaled else stored.dtype.itemsize


def read_nifti(path: Path) -> npt.NDArray[Any]:
    """Reads a file of one slice. Its first axis is the column, its second one the row, as in other programs.

    Returns:
        (height, width, 1); fractions where the file states a scale.

    Raises:
        KindError: it is a volume, has too much before its values, or does not hold numbers.
        ValueError and others: it is damaged.
    """
    stored = _open(path)
    width, height = _plane_of(stored.shape)
    values: npt.NDArray[Any] = np.asanyarray(stored).reshape(width, height)
    if values.dtype.kind not in "iuf":
        raise KindError(f"is a NIfTI file of {values.dtype}", "Save one number for each pixel")
    return values.T[..., None]


def _open(path: Path) -> Any:
    """Gives nibabel's array, whose values are not read yet. `nibabel.load` would read the extensions of the header too.

    Raises:
        KindError: it has too much before its values.
        ValueError: it is no NIfTI file.
    """
    from nibabel import imageglobals
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.openers import ImageOpener
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    imageglobals.logger.setLevel(logging.CRITICAL)  # it names faults without the file
    with ImageOpener(path) as file:
        beginning = file.read(Nifti2Header.sizeof_hdr)
    try:
        kind = next(kind for kind in (Nifti1Header, Nifti2Header) if kind.may_contain_header(beginning))
        header = kind(beginning[: kind.sizeof_hdr])
        _refuse_long_beginning(header.get_data_offset())
        return ArrayProxy(path, header)
    except (StopIteration, HeaderDataError, HeaderTypeError, WrapStructError) as error:
        raise ValueError("it is no NIfTI file, or its beginning is damaged") from error


def _refuse_long_beginning(num_bytes: int) -> None:
    if num_bytes > MAX_BYTES_BEFORE_VALUES:
        what = f"is a NIfTI file that claims {num_bytes} bytes before its values, more than {MAX_BYTES_BEFORE_VALUES}"
        copy = "nibabel.save(nibabel.Nifti1Image(n.dataobj, n.affine), 'NEW.nii.gz')"
        fix = f"Save it without extensions: `n = nibabel.load('FILE'); {copy}`"
        raise KindError(what, fix, "image-too-large")


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
