"""Predicts the images of a folder: index masks, colour masks, overlays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.data.images import IMAGE_SUFFIXES, ImageFileError, is_named_as_picture, load_image
from segpipe.errors import PredictionError
from segpipe.files import whole_file
from segpipe.inference.network import Network
from segpipe.reports.overlay import colorize, overlay

MASKS, COLORS, OVERLAYS = "masks", "colors", "overlays"


@dataclass(frozen=True)
class Prediction:
    """One predicted image.

    Attributes:
        name: path of the image within the input, suffix removed.
        mask: the predicted mask, (height, width) uint8 class indices.
    """

    name: str
    mask: npt.NDArray[np.uint8]


def find_images(source: Path) -> dict[str, Path]:
    """Finds the image files in a folder, by their path within it without suffix; or gives a single image file.

    Raises:
        PredictionError: there is no image, or two differ only in the suffix.
    """
    if source.is_file():
        return {source.stem: source}
    if not source.is_dir():
        raise PredictionError(f"{source}: no such file or folder")
    files: dict[str, Path] = {}
    twice = []
    for path in sorted(source.rglob("*")):
        if path.is_file() and is_named_as_picture(path.name):
            name = path.relative_to(source).with_suffix("").as_posix()
            twice += [f"{files[name]} and {path}"] if name in files else []
            files[name] = path
    if twice:
        raise PredictionError(
            f"two images with the same name, so one mask would replace the other; rename one: {'; '.join(twice)}"
        )
    if not files:
        raise PredictionError(f"{source}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def predict_images(network: Network, source: Path, output: Path) -> Iterator[Prediction]:
    """Predicts each image and writes `masks/`, `colors/` and `overlays/` below `output`, one PNG an image in each.

    If an image cannot be read, the others are still predicted.

    Raises:
        PredictionError: some images could not be read; raised after the last image, and names all of them.
    """
    faults = []
    for name, path in find_images(source).items():
        try:
            mask = _predict_file(network, path, name, output)
        except ImageFileError as fault:
            faults.append(f"{path}: {fault}")
            continue
        yield Prediction(name, mask)
    if faults:
        raise PredictionError("\n".join([f"{len(faults)} images could not be predicted:", *faults]))


def _predict_file(network: Network, path: Path, name: str, output: Path) -> npt.NDArray[np.uint8]:
    """Predicts one image and writes its pictures one by one, so that only one picture is in memory."""
    image = load_image(path, network.image_mapping).pixels
    mask: npt.NDArray[np.uint8] = network.predict(image[None])[0]
    _write_png(output / MASKS / f"{name}.png", Image.fromarray(mask))
    _write_png(output / COLORS / f"{name}.png", Image.fromarray(colorize(mask, network.classes)))
    _write_png(output / OVERLAYS / f"{name}.png", Image.fromarray(overlay(image, mask, network.classes)))
    return mask


def _write_png(path: Path, picture: Image.Image) -> None:
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG")
