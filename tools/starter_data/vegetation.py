"""Trees and bushes: a lit crown with ragged edges and gaps on a tapering trunk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from starter_data.classes import TREE
from starter_data.colour import RGB, Floats, linear
from starter_data.noise import noise_patch
from starter_data.raster import Canvas, limb, make_pyramid, paste_sprite
from starter_data.weather import Weather

KINDS = ("round", "round", "tall", "conifer", "bush", "sparse")


@dataclass(frozen=True)
class Tree:
    """A tree or bush at ground point `foot` (3,); metres; `leaf` and `bark` sRGB 0..255."""

    foot: Floats
    kind: str
    seed: int
    crown_width_m: float
    crown_height_m: float
    trunk_m: float
    leaf: RGB
    bark: RGB
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


def _cover(rng: np.random.Generator, kind: str, size: int) -> tuple[Floats, Floats]:
    # How deep inside the crown each texel is (> 0 is leaf), and how far its clump bulges up.
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size * 2 - 1
    depth, bulge = np.full_like(x, -1.0), np.zeros_like(x)
    for _ in range(34 if kind != "sparse" else 16):
        angle, reach = rng.uniform(0, 2 * np.pi), 0.66 * np.sqrt(rng.random())
        centre_x, centre_y = reach * np.cos(angle), reach * np.sin(angle)
        radius = rng.uniform(0.16, 0.34)
        if kind == "conifer":
            centre_y = rng.uniform(-0.85, 0.8)
            centre_x = rng.uniform(-0.5, 0.5) * (centre_y + 1.0) / 1.3
            radius *= 0.35 + 0.4 * (centre_y + 1)
        clump = 1.0 - np.hypot(x - centre_x, y - centre_y) / radius
        closer = clump > depth
        depth = np.where(closer, clump, depth)
        bulge = np.where(closer, (centre_y - y) / radius, bulge)
    return depth.astype(np.float32), bulge.astype(np.float32)


@lru_cache(maxsize=160)
def _crown(seed: int, kind: str, leaf: RGB, light_above: RGB, light_below: RGB, lean: float) -> tuple[Floats, ...]:
    size = 128
    rng = np.random.default_rng([seed, 9])
    depth, bulge = _cover(rng, kind, size)
    rough = noise_patch(seed, 1.2, size, size, 2.0)
    leaves = noise_patch(seed + 3, 0.4, size, size, 2.5)
    gaps = noise_patch(seed + 7, 1.5, size, size, 2.2)
    holes = {"sparse": 1.05, "conifer": 1.5, "bush": 2.6}.get(kind, 1.8)
    alpha = np.clip((depth + 0.16 * rough - 0.02) * 9.0, 0, 1) * np.clip((holes - gaps) * 5.0, 0, 1)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size * 2 - 1
    bright = np.clip(0.5 + 0.32 * bulge - 0.3 * y + 0.3 * lean * x + 0.22 * leaves, 0.05, 1.3)[..., None]
    light = np.asarray(light_below, np.float32) + bright * (np.asarray(light_above, np.float32))
    colour = linear(leaf) * light * (1.0 + 0.12 * rough[..., None])
    return make_pyramid(np.concatenate([np.maximum(colour, 0.0), alpha[..., None]], axis=2).astype(np.float32))


def draw_tree(canvas: Canvas, tree: Tree) -> None:
    """Draws trunk and branches, then the crown over them."""
    weather = canvas.weather
    up = np.array([0, 1, 0], dtype=np.float32)
    bark = linear(tree.bark) * (weather.ambient_RGB * 0.8 + 0.35 * weather.sun_RGB)
    if tree.kind != "bush":
        fork = tree.foot + up * np.float32(tree.trunk_m + 0.15 * tree.crown_height_m)
        thick = 0.06 + 0.017 * tree.crown_height_m
        limb(canvas, tree.foot, fork, (thick * 1.25, thick * 0.75), bark, TREE)
        for side in (-1.0, 0.35, 1.0):
            tip = fork + np.array([side * 0.28 * tree.crown_width_m, 0.4 * tree.crown_height_m, 0], dtype=np.float32)
            limb(canvas, fork, tip, (thick * 0.6, thick * 0.25), bark * np.float32(0.8), TREE)
    above = tuple(float(value) for value in 0.75 * weather.ambient_RGB + 0.85 * weather.sun_RGB)
    below = tuple(float(value) for value in 0.3 * weather.ambient_RGB)
    lean = round(float(weather.sun_direction[0]), 3)
    pyramid = _crown(tree.seed, tree.kind, tree.leaf, above[:3], below[:3], lean)
    paste_sprite(canvas, pyramid, tree.foot, tree.trunk_m, (tree.crown_width_m, tree.crown_height_m), TREE)


def tree_shadow(tree: Tree, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): the trunk, and a few lumps of crown so that its shadow is ragged too."""
    rng = np.random.default_rng([tree.seed, 4])
    lumps = []
    for _ in range(5):
        centre = tree.foot + np.array([0, tree.trunk_m + 0.5 * tree.crown_height_m, 0], dtype=np.float32)
        centre = centre + rng.normal(size=3) * np.array([0.2, 0.17, 0.2]) * tree.crown_width_m
        angles = np.arange(8) * np.pi / 4
        ring = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1) * 0.24 * tree.crown_width_m
        lumps.append((centre + ring).astype(np.float32))
    width = np.array([0.15, 0, 0], dtype=np.float32)
    top = tree.foot + np.array([0, tree.trunk_m + 0.5, 0], dtype=np.float32)
    return [*lumps, np.stack([tree.foot - width, tree.foot + width, top - width, top + width]).astype(np.float32)]
