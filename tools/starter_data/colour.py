"""Colour in linear light, and the paint ranges that several classes share on purpose.

Everything is mixed in linear light and turned into sRGB once, by the sensor. More than one class uses each of the
ranges below (asphalt, slabs, plaster, posts and rails are all grey or brown somewhere), so colour alone does not
identify a class.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
RGB: TypeAlias = tuple[float, float, float]

# sRGB 0..255. The keys name the look, not a class.
STONE: tuple[RGB, ...] = (
    (92, 92, 94),
    (128, 126, 122),
    (160, 158, 152),
    (72, 74, 80),
    (142, 130, 114),
    (118, 104, 90),
    (176, 166, 150),
    (106, 112, 122),
)
EARTH: tuple[RGB, ...] = ((128, 74, 58), (150, 98, 72), (104, 66, 52), (166, 132, 96), (122, 96, 72), (88, 66, 52))
PAINT: tuple[RGB, ...] = (
    (206, 204, 198),
    (150, 154, 160),
    (40, 42, 46),
    (150, 28, 28),
    (28, 58, 120),
    (34, 84, 60),
    (196, 168, 62),
    (92, 30, 44),
    (112, 136, 168),
    (198, 186, 156),
    (86, 92, 58),
    (190, 96, 48),
    (70, 112, 124),
)
PASTEL: tuple[RGB, ...] = (
    (214, 204, 182),
    (206, 178, 150),
    (176, 196, 214),
    (150, 176, 204),
    (200, 204, 206),
    (210, 190, 130),
    (170, 188, 160),
    (204, 160, 146),
)
LEAF: tuple[RGB, ...] = (
    (72, 92, 44),
    (56, 78, 46),
    (98, 106, 50),
    (128, 104, 44),
    (142, 84, 44),
    (84, 96, 70),
    (104, 92, 66),
)
SKIN: tuple[RGB, ...] = ((222, 178, 150), (198, 150, 118), (150, 104, 78), (96, 66, 50))
VIVID: tuple[RGB, ...] = (
    (178, 26, 32),
    (24, 72, 160),
    (226, 186, 32),
    (32, 112, 70),
    (226, 226, 222),
    (120, 76, 44),
    (30, 32, 36),
)


def linear(colour: RGB) -> Floats:
    """Turns one sRGB colour (three numbers, 0..255) into linear light (3,) float32, 0..1."""
    return ((np.asarray(colour, dtype=np.float32) / 255.0) ** 2.2).astype(np.float32)


def pick(rng: np.random.Generator, colours: tuple[RGB, ...], jitter: float = 0.12) -> RGB:
    """Draws one of `colours` and shifts its brightness and each channel by about `jitter`; sRGB, 0..255."""
    base = np.asarray(colours[int(rng.integers(len(colours)))], dtype=np.float64)
    shifted = base * (1.0 + jitter * rng.normal()) * (1.0 + 0.35 * jitter * rng.normal(size=3))
    red, green, blue = np.clip(shifted, 12.0, 245.0)
    return float(red), float(green), float(blue)
