"""Writes rendered street scenes as a labelled data set in the layout of the `folder` reader."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from segpipe.classes import IGNORE_INDEX
from starter_data import CLASS_COLORS, CLASS_NAMES, render_sequence

JPEG_QUALITY = 92
LICENCE = "rendered by segpipe; free for any use"


def write_rendered_set(
    folder: Path, seed: int, num_sequences: int, num_frames: int, every: int, height: int, width: int
) -> Iterator[Path]:
    """Renders sequences into `images/`, `masks/` and `dataset.yaml`.

    Args:
        folder: made if missing; files of the same names are replaced.
        seed: with the number of a sequence it decides everything in it.
        num_sequences: how many streets.
        num_frames: frames of each.
        every: distance of two frames in frames of the drive, about a metre each.
        height: of a frame in pixels.
        width: of a frame in pixels.

    Yields:
        Each image's path when it and its mask are written.
    """
    cv2.setNumThreads(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    classes = [{"name": n, "color": list(c)} for n, c in zip(CLASS_NAMES, CLASS_COLORS, strict=True)]
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.dump({"classes": classes, "void": [IGNORE_INDEX], "licence": LICENCE}, folder / "dataset.yaml")
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASS_COLORS)] = CLASS_COLORS
    for sequence in range(num_sequences):
        frames = render_sequence(seed, sequence, num_frames, height, width, every)
        for frame, (image, mask) in enumerate(frames):
            name = f"street{sequence:02d}_{frame:03d}"
            # A palette shows the classes' colours in any viewer; the stored values are the indices.
            indexed = Image.fromarray(mask)
            indexed.putpalette(palette.ravel().tolist())
            indexed.save(folder / "masks" / f"{name}.png", optimize=True)
            path = folder / "images" / f"{name}.jpg"
            Image.fromarray(image).save(path, quality=JPEG_QUALITY, subsampling=0)
            yield path
