"""Writes the pictures of a prediction: each file whole or not at all."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import get_ident

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segpipe.classes import ClassTable
from segpipe.data.images import GEO_TYPES, Georeference
from segpipe.files import naming
from segpipe.prediction.predicting import CERTAIN, Predicted, Wanted
from segpipe.prediction.record import COLORS, CONFIDENCE, MASKS, OVERLAYS, PROBABILITIES, Row
from segpipe.reports.drawing.overlay import colorize, encode_png, overlay

ARRAY_SUFFIX, PNG_SUFFIX, GEOTIFF_SUFFIX = ".npy", ".png", ".tif"


def list_kinds(wanted: Wanted) -> list[str]:
    """Gives the folders that are written."""
    kinds = {CONFIDENCE: wanted.confidence, PROBABILITIES: wanted.probabilities}
    return [MASKS, COLORS, OVERLAYS, *(kind for kind, is_wanted in kinds.items() if is_wanted)]


def place_of(kind: str, name: str, is_georeferenced: bool = False) -> Path:
    """Gives the file of a kind for a picture's name, relative to the output folder.

    Args:
        kind: the folder.
        name: of the picture's outputs.
        is_georeferenced: whether the picture's file says where it lies on the earth; its outputs do too then.
    """
    suffix = ARRAY_SUFFIX if kind == PROBABILITIES else GEOTIFF_SUFFIX if is_georeferenced else PNG_SUFFIX
    return Path(kind) / f"{name}{suffix}"


def write_prediction(predicted: Predicted, classes: ClassTable, output: Path, temporary: Path) -> Row:
    """Writes all files of a prediction.

    Args:
        predicted: the prediction.
        classes: of the mask.
        output: the folder for all predictions.
        temporary: a folder on the same file system for files that are not whole yet.

    Returns:
        Its row of the table.

    Raises:
        OSError: the system refuses.
    """
    scene, mask = predicted.scene, predicted.mask
    georeference = scene.picture.georeference

    def write(kind: str, save: Callable[[Path], object]) -> None:
        path = output / place_of(kind, scene.name, georeference is not None)
        part = temporary / f"{get_ident()}{path.suffix}"
        with naming(path):
            save(part)
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        # Of a file that had none before, or has none any more.
        if (other := output / place_of(kind, scene.name, georeference is None)) != path:
            other.unlink(missing_ok=True)

    def write_pixels(kind: str, pixels: npt.NDArray[np.uint8]) -> None:
        if georeference is None:
            write(kind, partial(_save_png, pixels))
        else:
            write(kind, partial(_save_geotiff, pixels, georeference))

    write_pixels(MASKS, mask)
    write_pixels(COLORS, colorize(mask, classes))
    write_pixels(OVERLAYS, overlay(scene.picture.pixels, mask, classes))
    if predicted.confidence is not None:
        write_pixels(CONFIDENCE, predicted.confidence)
    if (probabilities_CHW := predicted.probabilities_CHW) is not None:
        write(PROBABILITIES, partial(_save_array, probabilities_CHW))
    return _describe(predicted, classes.num_classes)


def _describe(predicted: Predicted, num_classes: int) -> Row:
    scene, confidence = predicted.scene, predicted.confidence
    height, width = scene.size_hw
    return Row(
        name=scene.name,
        path=str(scene.path.resolve()),
        stamp=scene.stamp,
        width_px=width,
        height_px=height,
        areas_px=tuple(np.bincount(predicted.mask.ravel(), minlength=num_classes).tolist()),
        mean_confidence=None if confidence is None else float(confidence.mean()) / CERTAIN,
        notes=scene.picture.notes,
        is_georeferenced=scene.picture.georeference is not None,
    )


def _save_png(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    """Writes (height, width) indices or (height, width, 3) RGB."""
    path.write_bytes(encode_png(pixels))


def _save_geotiff(pixels: npt.NDArray[np.uint8], georeference: Georeference, path: Path) -> None:
    """Writes (height, width) indices or (height, width, 3) RGB, and where they lie on the earth."""
    directory = ImageFileDirectory_v2()
    for tag, value in georeference.tags.items():
        directory.tagtype[tag] = GEO_TYPES[tag]
        directory[tag] = value
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "TIFF", compression="tiff_adobe_deflate", tiffinfo=directory)
    path.write_bytes(encoded.getbuffer())


def _save_array(planes: npt.NDArray[np.float16], path: Path) -> None:
    """Writes (planes, height, width) as `numpy.save` does, which does not say that a disk is full."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(planes))
        for plane in planes:
            file.write(np.ascontiguousarray(plane).data)
