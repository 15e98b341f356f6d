"""Facade textures: walls of brick, plaster, concrete or glass with windows, doors and shop fronts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from starter_data.colour import PAINT, PASTEL, RGB, Floats, linear, pick
from starter_data.noise import noise_patch
from starter_data.raster import make_pyramid

MATERIALS = ("brick", "plaster", "concrete", "glass", "boards")


@dataclass(frozen=True)
class Facade:
    """What a facade looks like. Metres; colours sRGB 0..255; `glass` is what its panes mirror, linear light.

    `has_openings` False is a blind gable wall; `lit` is the share of windows with the light on.
    """

    seed: int
    material: str
    width_m: float
    height_m: float
    wall: RGB
    trim: RGB
    glass: tuple[float, float, float]
    has_shop: bool
    has_openings: bool
    lit: float


@dataclass(frozen=True)
class _Sheet:
    # A texture under work, addressed in metres: x from the left edge, y up from the ground.
    pixels: Floats
    texels_per_m: float

    def paint(self, left: float, bottom: float, right: float, top: float, colour: Floats) -> None:
        height = self.pixels.shape[0]
        x0, x1 = (max(0, round(value * self.texels_per_m)) for value in (left, right))
        y0, y1 = (max(0, height - round(value * self.texels_per_m)) for value in (top, bottom))
        self.pixels[y0:y1, x0:x1] = colour


def _wall(facade: Facade, texels_per_m: float) -> _Sheet:
    height = max(8, round(facade.height_m * texels_per_m))
    width = max(8, round(facade.width_m * texels_per_m))
    up = (np.arange(height, dtype=np.float32)[::-1, None] + 0.5) / texels_per_m
    out = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / texels_per_m
    stain = noise_patch(facade.seed, 1.6, height, width, 9.0 / texels_per_m)
    grain = noise_patch(facade.seed + 5, 0.4, height, width, 24.0 / texels_per_m)
    tone = 1.0 + 0.07 * stain + 0.05 * grain
    if facade.material == "brick":
        course = np.floor(up / 0.17)
        shift = out / 0.42 + 0.5 * (course % 2)
        joint = ((up / 0.17 - course) < 0.2) | ((shift - np.floor(shift)) < 0.1)
        hash_ = np.sin(course * 12.9898 + np.floor(shift) * 78.233) * 43758.547
        tone = tone * (0.85 + 0.3 * (hash_ - np.floor(hash_))) * np.where(joint, 1.3, 1.0)
    elif facade.material == "concrete":
        joint = ((up % 1.5) < 0.06) | ((out % 2.4) < 0.06)
        tone = tone * np.where(joint, 0.72, 1.0) * (1.0 - 0.05 * stain)
    elif facade.material == "boards":
        tone = tone * np.where((up % 0.3) < 0.05, 0.66, 1.0)
    # Rain and dust darken the foot of a wall.
    tone = tone * (1.0 - 0.2 * np.exp(-up / 0.5))
    return _Sheet((np.maximum(tone, 0.1)[..., None] * linear(facade.wall)).astype(np.float32), texels_per_m)


def _window(
    sheet: _Sheet, rng: np.random.Generator, facade: Facade, left: float, bottom: float, width: float, height: float
) -> None:
    trim, glass = linear(facade.trim), np.asarray(facade.glass, dtype=np.float32)
    right, top = left + width, bottom + height
    sheet.paint(left - 0.14, bottom - 0.2, right + 0.14, bottom, trim * 0.9)
    sheet.paint(left - 0.1, bottom, right + 0.1, top + 0.14, trim)
    sheet.paint(left, bottom, right, top, np.float32(0.012) + glass * np.float32(rng.uniform(0.03, 0.3)))
    if rng.random() < facade.lit:
        sheet.paint(
            left, bottom, right, top, np.array([1.9, 1.3, 0.6], dtype=np.float32) * np.float32(rng.uniform(0.5, 1))
        )
    else:
        # The upper panes mirror the sky, blinds and curtains hide some of the room.
        sheet.paint(
            left, bottom + height * rng.uniform(0.4, 0.8), right, top, glass * np.float32(rng.uniform(0.25, 0.6))
        )
        if rng.random() < 0.35:
            sheet.paint(left, top - height * rng.uniform(0.2, 0.7), right, top, linear(pick(rng, PASTEL)) * 0.7)
    middle = left + width / 2
    sheet.paint(middle - 0.05, bottom, middle + 0.05, top, trim)
    sheet.paint(left, bottom + 0.55 * height, right, bottom + 0.55 * height + 0.09, trim)


def _shop(sheet: _Sheet, rng: np.random.Generator, facade: Facade, top: float) -> None:
    glass = np.asarray(facade.glass, dtype=np.float32)
    paint = linear(pick(rng, PAINT))
    sheet.paint(0.15, 0.0, facade.width_m - 0.15, top, paint * 0.8)
    bays = max(2, round(facade.width_m / 2.6))
    bay = (facade.width_m - 0.5) / bays
    door = int(rng.integers(bays))
    for index in range(bays):
        left = 0.25 + index * bay
        low = 0.05 if index == door else 0.55
        dark = np.float32(rng.uniform(0.05, 0.25))
        sheet.paint(left + 0.12, low, left + bay - 0.12, top - 0.75, np.float32(0.02) + glass * dark)
        if facade.lit > 0.1 or rng.random() < 0.3:
            sheet.paint(
                left + 0.2, low + 0.5, left + bay - 0.2, top - 1.0, np.array([0.8, 0.6, 0.35], dtype=np.float32)
            )
        for _ in range(4):
            start, floor = left + 0.2 + rng.random() * (bay - 0.9), low + rng.random() * 1.1
            sheet.paint(start, floor, start + 0.4, floor + rng.uniform(0.2, 0.6), linear(pick(rng, PAINT)) * 0.6)
    sheet.paint(0.1, top - 0.65, facade.width_m - 0.1, top, paint)
    letter = 0.15 * facade.width_m
    while letter < 0.8 * facade.width_m:
        width = rng.uniform(0.18, 0.4)
        sheet.paint(letter, top - 0.5, letter + width, top - 0.15, linear(facade.trim))
        letter += width + 0.12


def _openings(sheet: _Sheet, rng: np.random.Generator, facade: Facade) -> None:
    storey = rng.uniform(2.8, 3.4)
    ground = rng.uniform(3.3, 3.9) if facade.has_shop else storey
    width, height = rng.uniform(0.9, 1.5), rng.uniform(1.3, 1.9)
    bays = max(1, int(facade.width_m / (width + rng.uniform(0.9, 1.7))))
    pitch = facade.width_m / bays
    door = int(rng.integers(bays))
    floor = 0.0
    while floor + 2.4 < facade.height_m:
        if floor == 0.0 and facade.has_shop:
            _shop(sheet, rng, facade, ground - 0.2)
        else:
            for bay in range(bays):
                left = (bay + 0.5) * pitch - width / 2
                if floor == 0.0 and bay == door:
                    sheet.paint(left, 0.0, left + 1.15, 2.35, linear(facade.trim))
                    sheet.paint(left + 0.1, 0.0, left + 1.05, 2.2, linear(pick(rng, PAINT)) * 0.7)
                else:
                    _window(sheet, rng, facade, left, floor + 0.85, width, min(height, facade.height_m - floor - 1.1))
        floor += ground if floor == 0.0 else storey
        if rng.random() < 0.4:
            sheet.paint(0.0, floor - 0.1, facade.width_m, floor + 0.08, linear(facade.trim) * 0.8)
    sheet.paint(0.0, facade.height_m - 0.35, facade.width_m, facade.height_m, linear(facade.trim) * 0.75)


def _curtain_wall(sheet: _Sheet, rng: np.random.Generator, facade: Facade) -> None:
    glass, step = np.asarray(facade.glass, dtype=np.float32), rng.uniform(1.2, 2.0)
    storey = rng.uniform(1.6, 3.2)
    for row in range(int(facade.height_m / storey) + 1):
        for column in range(int(facade.width_m / step) + 1):
            shine = np.float32(rng.uniform(0.12, 0.75)) * np.float32(0.5 + 0.5 * row * storey / facade.height_m)
            tint = linear(facade.wall) * 0.25 + glass * shine
            if rng.random() < facade.lit:
                tint = np.array([1.3, 1.0, 0.6], dtype=np.float32)
            sheet.paint(
                column * step + 0.09, row * storey + 0.12, (column + 1) * step - 0.09, (row + 1) * storey - 0.12, tint
            )
    if facade.has_shop:
        _shop(sheet, rng, facade, 3.4)


@lru_cache(maxsize=160)
def facade_pyramid(facade: Facade, texels_per_m: float) -> tuple[Floats, ...]:
    """The texture of a facade, H x W x 3 float32 linear reflectance (lit windows exceed 1), with its halvings."""
    rng = np.random.default_rng([facade.seed, 3])
    sheet = _wall(facade, texels_per_m)
    if facade.has_openings and facade.material == "glass":
        _curtain_wall(sheet, rng, facade)
    elif facade.has_openings:
        _openings(sheet, rng, facade)
    return make_pyramid(sheet.pixels)
