"""Fences, hedges and guard rails.

The background is visible between the bars, but the label covers the whole panel, as annotators label it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from starter_data.classes import FENCE
from starter_data.colour import RGB, Floats, linear
from starter_data.noise import noise_patch
from starter_data.raster import Canvas, make_pyramid, outward_normal, paste_wall
from starter_data.weather import Weather, shade

FENCE_KINDS = ("bars", "boards", "hedge", "mesh", "rails")
_TEXELS_PER_M = 40


@dataclass(frozen=True)
class Fence:
    """A panel between two ground points, `near` and `far` (3,); `colour` sRGB 0..255."""

    near: Floats
    far: Floats
    kind: str
    height_m: float
    colour: RGB
    seed: int
    layer: int

    @property
    def along_m(self) -> float:
        """World z of the middle."""
        return float(self.near[2] + self.far[2]) / 2


@lru_cache(maxsize=64)
def _panel(kind: str, length_m: float, height_m: float, colour: RGB, seed: int) -> tuple[Floats, ...]:
    height, width = max(8, round(height_m * _TEXELS_PER_M)), max(8, round(length_m * _TEXELS_PER_M))
    up = (np.arange(height, dtype=np.float32)[::-1, None] + 0.5) / _TEXELS_PER_M
    out = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / _TEXELS_PER_M
    grain = noise_patch(seed, 0.6, height, width, 2.0)
    tone, alpha = 1.0 + 0.08 * grain, np.zeros((height, width), dtype=np.float32)
    rails = (np.abs(up - 0.12) < 0.05) | (np.abs(up - height_m + 0.09) < 0.06)
    posts = np.abs(out - 1.5 * np.round(out / 1.5)) < 0.06
    if kind == "bars":
        alpha = np.maximum(rails | posts, (out % 0.24) < 0.115).astype(np.float32)
    elif kind == "boards":
        board = np.floor(out / 0.2)
        gap = (out / 0.2 - board) < 0.16
        tone = tone * (0.86 + 0.28 * ((board * 0.618) % 1.0)) * np.where(gap, 0.35, 1.0)
        alpha = ((up < height_m - 0.06 * (board % 2)) | posts).astype(np.float32)
    elif kind == "hedge":
        leaves = noise_patch(seed + 2, 0.5, height, width, 3.0)
        tone = 0.75 + 0.26 * leaves + 0.2 * (up / height_m) + 0.1 * grain
        # Clipped in panels with a shadow between, and posts that show: a hedge-coloured fence, not a bush.
        tone = np.where(np.abs(out - 1.5 * np.round(out / 1.5)) < 0.07, 0.35, tone)
        alpha = np.ones((height, width), dtype=np.float32)
    elif kind == "mesh":
        wires = ((out + up) % 0.17 < 0.045) | ((out - up) % 0.17 < 0.045)
        alpha = np.maximum(np.where(wires, 0.9, 0.3), rails | posts).astype(np.float32)
    else:
        third = (up % (height_m / 3)) < 0.17
        alpha = (rails | third | posts).astype(np.float32)
    rgb = np.maximum(tone, 0.08)[..., None] * linear(colour)
    return make_pyramid(np.concatenate([rgb, alpha[..., None]], axis=2).astype(np.float32))


def draw_fence(canvas: Canvas, fence: Fence) -> None:
    """Draws one panel."""
    feet = np.stack([fence.near, fence.far]).astype(np.float32)
    normal = outward_normal(
        np.stack([feet[0], feet[1], feet[0] + np.array([0, 1, 0], np.float32)]), canvas.camera.position
    )
    length = round(float(np.linalg.norm(feet[1] - feet[0])), 1)
    pyramid = _panel(fence.kind, length, round(fence.height_m, 2), fence.colour, fence.seed)
    paste_wall(canvas, pyramid, feet, 0.0, fence.height_m, shade(canvas.weather, -normal), FENCE)


def fence_shadow(fence: Fence, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): the panel, or only its rails where one sees through."""
    top = np.array([0, fence.height_m, 0], dtype=np.float32)
    if fence.kind in ("boards", "hedge"):
        return [np.stack([fence.near, fence.far, fence.near + top, fence.far + top])]
    low = top * np.float32(0.85)
    return [np.stack([fence.near + low, fence.far + low, fence.near + top, fence.far + top])]
