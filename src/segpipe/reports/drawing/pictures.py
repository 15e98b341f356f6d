"""Draws samples, with and without augmentation, as a grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segpipe.classes import ClassTable
from segpipe.data.loading.transform import Pair
from segpipe.reports.drawing.overlay import overlay

MAX_CELL_PX = 320
GAP_PX = 6
FONT_PX = 14
LINE_PX = FONT_PX + 2 * GAP_PX
PAPER, INK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class GridRow:
    """The versions of one sample, from left to right.

    Args:
        title: the text above the row.
        samples: (height, width, 3) images with their (height, width) masks, uint8; the first may have another size.
    """

    title: str
    samples: Sequence[Pair]


def draw_grid(columns: Sequence[str], rows: Sequence[GridRow], classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Draws each sample, below it the sample with its mask laid over it, and at the bottom the classes' colours.

    Args:
        columns: titles, one for each sample of a row.
        rows: at least one; each has one sample for each column; the last samples of all rows have the same size.
        classes: the classes with names and colours.

    Returns:
        (height, width, 3) uint8 RGB; a sample is at most `MAX_CELL_PX` high and wide.
    """
    size_hw = _fit(rows[0].samples[-1][1].shape, (MAX_CELL_PX, MAX_CELL_PX))
    step_px = size_hw[1] + GAP_PX
    bands = [_text_band(columns, step_px)]
    for row in rows:
        bands.append(_text_band([row.title], len(columns) * step_px))
        bands.append(_picture_band([image for image, _ in row.samples], size_hw))
        bands.append(_picture_band([overlay(image, mask, classes) for image, mask in row.samples], size_hw))
    return np.concatenate([*bands, _legend(classes, bands[0].shape[1])])


def _fit(shape: tuple[int, ...], limit_hw: tuple[int, int]) -> tuple[int, int]:
    """Gives the size of a picture after it is shrunk to fit into a limit; a smaller picture stays as it is."""
    shrink = min(1.0, limit_hw[0] / shape[0], limit_hw[1] / shape[1])
    return max(1, round(shape[0] * shrink)), max(1, round(shape[1] * shrink))


def _paper(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), PAPER, np.uint8)


def _picture_band(pictures: Sequence[npt.NDArray[np.uint8]], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    band = _paper(size_hw[0] + GAP_PX, len(pictures) * (size_hw[1] + GAP_PX))
    for number, picture in enumerate(pictures):
        height, width = _fit(picture.shape, size_hw)
        left = number * (size_hw[1] + GAP_PX)
        band[:height, left : left + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return band


def _text_band(texts: Sequence[str], step_px: int) -> npt.NDArray[np.uint8]:
    band = Image.new("RGB", (len(texts) * step_px, LINE_PX), PAPER)
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(FONT_PX)
    for number, text in enumerate(texts):
        draw.text((number * step_px, GAP_PX), text, INK, font)
    return np.asarray(band)


def _legend(classes: ClassTable, width: int) -> npt.NDArray[np.uint8]:
    font = ImageFont.load_default(FONT_PX)
    entry_widths = [LINE_PX + round(font.getlength(name)) + 2 * GAP_PX for name in classes.names]
    places, left, line = [], 0, 0
    for entry_width in entry_widths:
        if left and left + entry_width > width:
            left, line = 0, line + 1
        places.append((left, line * LINE_PX))
        left += entry_width
    picture = Image.new("RGB", (width, (line + 1) * LINE_PX), PAPER)
    draw = ImageDraw.Draw(picture)
    for (x, y), name, color in zip(places, classes.names, classes.colors, strict=True):
        draw.rectangle((x, y + GAP_PX, x + FONT_PX, y + GAP_PX + FONT_PX), fill=color, outline=INK)
        draw.text((x + LINE_PX - GAP_PX, y + GAP_PX), name, INK, font)
    return np.asarray(picture)
