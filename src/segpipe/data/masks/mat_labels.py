"""Masks in files of MATLAB, as the Semantic Boundaries Dataset (SBD) has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat  # type: ignore[import-untyped]

from segpipe.data.masks.labels import digest_of, look_up
from segpipe.faults import Fault, Reading


@dataclass(frozen=True)
class MatMask:
    """The matrix `Segmentation` in the structure `GTcls` of a `.mat` file.

    Args:
        path: of the file.
        indices: class index, or `IGNORE_INDEX`, of each known value (0..255).
    """

    path: Path
    indices: Mapping[int, int]

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def key(self) -> str:
        """The meaning of the values."""
        return digest_of("mat", sorted(self.indices.items()))

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Maps each value to its class."""
        loaded = _load(self.path)
        if isinstance(loaded, Fault):
            return Reading(None, (loaded,))
        return look_up(loaded, self.indices)


def _load(path: Path) -> npt.NDArray[np.uint8] | Fault:
    try:
        with path.open("rb") as file:  # loadmat hides why a file cannot be opened
            content: Any = loadmat(file, variable_names=["GTcls"], simplify_cells=True)
        matrix = content["GTcls"]["Segmentation"]
    except OSError as error:
        if error.errno is not None:
            raise  # the system's: no such file, no permission
        return _damaged(error)
    except Exception as error:
        # For a damaged file loadmat raises errors of many types: zlib.error, struct.error, KeyError, TypeError, ...
        return _damaged(error)
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype != np.uint8:
        shape, dtype = getattr(matrix, "shape", None), getattr(matrix, "dtype", type(matrix).__name__)
        what = f"holds GTcls.Segmentation of shape {shape} and type {dtype}"
        return Fault("mask-mode", what, "It must be a matrix of uint8")
    return np.ascontiguousarray(matrix)  # MATLAB's matrices lie column by column


def _damaged(error: Exception) -> Fault:
    what = f"holds no readable GTcls.Segmentation: {type(error).__name__}: {error}"
    return Fault("image-damaged", what, "Replace it by an intact copy")
