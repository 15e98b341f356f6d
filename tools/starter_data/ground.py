"""The ground plane: asphalt, lane marks, kerb and slabs, ray-cast pixel by pixel.

Textures live in world coordinates, so they stay put while the camera drives over them, and fade with depth before they
alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from starter_data.camera import Camera
from starter_data.classes import PAVEMENT, ROAD
from starter_data.colour import Floats, linear
from starter_data.noise import noise_tile, sample_noise
from starter_data.raster import Canvas
from starter_data.street import Street
from starter_data.weather import shade

_UP: Floats = np.array([0.0, 1.0, 0.0], dtype=np.float32)


@dataclass(frozen=True)
class Junction:
    """A side street: on one side (`sign`), z from `start` to `end`, the road leaves between the buildings."""

    sign: int
    start: float
    end: float


@dataclass(frozen=True)
class Ground:
    """What lies on the plane near the camera: side streets, and z of zebra crossings."""

    junctions: tuple[Junction, ...]
    crossings: tuple[float, ...]


def horizon_row(camera: Camera) -> int:
    """First row that sees the ground; rows above see the sky."""
    down = camera.focal_px * np.tan(camera.pitch)
    return int(np.clip(np.floor(camera.height / 2 + down) + 1, 0, camera.height))


def _cast(camera: Camera, first_row: int) -> tuple[Floats, Floats, Floats]:
    # World x, z and depth of every pixel from first_row down, each H x W.
    right, up, forward = camera.axes
    rows = (camera.height / 2 - np.arange(first_row, camera.height, dtype=np.float32) - 0.5) / camera.focal_px
    columns = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2) / camera.focal_px
    fall = np.minimum(up[1] * rows + forward[1], -1e-4)
    reach = np.minimum(-camera.y / fall, 400.0).astype(np.float32)[:, None]
    across = camera.x + reach * (right[0] * columns[None] + (up[0] * rows + forward[0])[:, None])
    along = camera.z + reach * (right[2] * columns[None] + (up[2] * rows + forward[2])[:, None])
    return across.astype(np.float32), along.astype(np.float32), reach


def _band(distance: Floats, half_width: float, blur: Floats) -> Floats:
    # 1 inside a stripe, 0 outside, with an edge as soft as a pixel is wide there.
    return np.asarray(np.clip((half_width - distance) / blur + 0.5, 0.0, 1.0), dtype=np.float32)


def _marks(street: Street, ground: Ground, across: Floats, along: Floats, blur: Floats) -> Floats:
    """Strength of the white paint on the road, H x W, 0..1."""
    period, dash = ((9.0, 5.0), (6.0, 2.0), (4.0, 4.0))[street.marking_kind]
    dashed = ((along - period * np.floor(along / period)) < dash).astype(np.float32)
    paint = _band(np.abs(across), 0.08, blur) * dashed
    for side in street.sides:
        distance = side.sign * across
        if side.has_parking:
            cell = np.abs(along - 5.5 * np.floor(along / 5.5) - 2.75)
            bay = (distance > side.road_edge - 2.0) * _band(cell, 0.06, blur * 3)
            paint = np.maximum(paint, np.maximum(bay, _band(np.abs(distance - side.road_edge + 2.05), 0.06, blur)))
        elif street.marking_kind != 2:
            paint = np.maximum(paint, _band(np.abs(distance - side.road_edge + 0.35), 0.06, blur))
    for crossing in ground.crossings:
        inside = (np.abs(along - crossing) < 1.6).astype(np.float32)
        stripe = np.abs(across - np.floor(across) - 0.5)
        paint = np.maximum(paint * (1 - inside), inside * _band(stripe, 0.26, blur))
    return np.asarray(paint, dtype=np.float32)


def _asphalt(street: Street, ground: Ground, across: Floats, along: Floats, world_x: Floats, reach: Floats) -> Floats:
    near = 1.0 / (1.0 + (reach / 9.0) ** 2)
    speckle = sample_noise(noise_tile(1, 0.3), world_x * 18, along * 18) * near
    blotch = sample_noise(noise_tile(2, 1.6), world_x * 5, along * 2)
    tone = 1.0 + 0.13 * speckle + 0.09 * blotch
    # Wheels polish two tracks per lane; repaired trenches are darker with a straight edge.
    tone -= 0.07 * np.cos(np.clip(np.abs(across) - 1.7, -1.6, 1.6) * (2 * pi / 1.6))
    trench = (np.floor(along / 7.0) * 12.9898) % 1.0
    tone -= 0.16 * ((trench > 0.62) & (np.abs(across - 6 * trench + 3.6) < 0.7))
    crack = np.abs(sample_noise(noise_tile(3, 1.5), world_x * 11, along * 7))
    tone -= 0.3 * near * (crack < 0.03)
    colour = np.maximum(tone, 0.2)[..., None] * linear(street.road_colour)
    if street.cycle_lane_colour is not None:
        for side in street.sides:
            edge = side.road_edge - (2.1 if side.has_parking else 0.0)
            lane = np.abs(side.sign * across - edge + 0.75) < 0.7
            np.copyto(
                colour, np.maximum(tone, 0.2)[..., None] * linear(street.cycle_lane_colour), where=lane[..., None]
            )
    blur = np.maximum(reach / 220.0, 0.02)
    wear = 0.75 + 0.12 * sample_noise(noise_tile(4, 0.8), world_x * 9, along * 9)
    paint = (_marks(street, ground, across, along, blur) * np.clip(wear, 0.2, 0.95))[..., None]
    return np.asarray(colour + paint * (linear(street.marking_colour) - colour), dtype=np.float32)


def _paving(street: Street, across: Floats, along: Floats, world_x: Floats, reach: Floats) -> Floats:
    size = street.slab_m
    near = np.clip(1.3 - reach / 26.0, 0.0, 1.0)
    rows = np.floor(across / size)
    # Half-bond: each row of slabs is shifted against its neighbour.
    shifted = along / size + 0.5 * (rows % 2)
    columns = np.floor(shifted)
    blur = np.maximum(reach / 200.0, 0.02)
    gap_across = _band(size * (0.5 - np.abs(across / size - rows - 0.5)), 0.022, blur)
    gap_along = _band(size * (0.5 - np.abs(shifted - columns - 0.5)), 0.022, blur * 3)
    slab = sample_noise(noise_tile(5, 0.0), rows * 7.0, columns * 5.0)
    grain = sample_noise(noise_tile(6, 0.7), world_x * 14, along * 14)
    tone = 1.0 + near * (0.11 * slab + 0.05 * grain - 0.5 * np.maximum(gap_across, gap_along))
    left, right = linear(street.left.pavement_colour), linear(street.right.pavement_colour)
    colour = np.where((across < 0)[..., None], left, right)
    return np.asarray(np.maximum(tone, 0.15)[..., None] * colour, dtype=np.float32)


def draw_ground(canvas: Canvas, street: Street, ground: Ground, lit_HW: Floats | None) -> None:
    """Paints every row below the horizon.

    Args:
        canvas: where to draw.
        street: cross-section and materials.
        ground: side streets and crossings.
        lit_HW: share of sunlight per canvas pixel, 0 in shadow .. 1; None is fully lit.
    """
    first_row = horizon_row(canvas.camera)
    if first_row >= canvas.camera.height:
        return
    world_x, along, reach = _cast(canvas.camera, first_row)
    turn = np.float32(2 * pi / street.bend_length_m)
    across = world_x - np.float32(street.bend_m) * np.sin(along * turn + np.float32(street.bend_phase))
    edge = np.where(across < 0, np.float32(street.left.road_edge), np.float32(street.right.road_edge))
    outside = np.abs(across) - edge
    off_road = outside > 0
    for junction in ground.junctions:
        off_road &= ~((across * junction.sign > 0) & (along > junction.start) & (along < junction.end))
    colour = _asphalt(street, ground, across, along, world_x, reach)
    np.copyto(colour, _paving(street, across, along, world_x, reach), where=off_road[..., None])
    kerb = off_road & (outside < 0.32)
    face = off_road & (outside < 0.13)
    gutter = ~off_road & (np.abs(outside + 0.12) < 0.12)
    colour[kerb] = linear(street.kerb_colour)
    colour[face] *= np.float32(0.5)
    colour[gutter] *= np.float32(0.72)
    weather = canvas.weather
    full, shadow = shade(weather, _UP), weather.ambient_RGB * np.float32(0.8)
    if lit_HW is None:
        colour *= full
    else:
        colour *= shadow + lit_HW[first_row:, :, None] * (full - shadow)
    clear = np.exp(-weather.haze_per_m * reach)[..., None]
    canvas.image[first_row:] = colour * clear + weather.haze_RGB * (1.0 - clear)
    canvas.mask[first_row:] = np.where(off_road, np.uint8(PAVEMENT), np.uint8(ROAD))
