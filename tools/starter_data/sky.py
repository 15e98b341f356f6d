"""The sky with its clouds, and the far skyline that closes the view."""

from __future__ import annotations

from math import pi

import numpy as np

from starter_data.classes import BUILDING, SKY, TREE
from starter_data.colour import Floats, linear
from starter_data.ground import horizon_row
from starter_data.noise import noise_tile, sample_noise
from starter_data.raster import Canvas, fill_pixels
from starter_data.street import Street

# How far off the skyline stands, for the haze in front of it.
_SKYLINE_M = 130.0


def draw_sky(canvas: Canvas, frame_index: int) -> None:
    """Paints every row down to the horizon; clouds drift slowly with `frame_index`."""
    camera, weather = canvas.camera, canvas.weather
    last_row = min(camera.height, horizon_row(camera) + 1)
    if last_row <= 0:
        return
    right, up, forward = camera.axes
    rows = (camera.height / 2 - np.arange(last_row, dtype=np.float32) - 0.5) / camera.focal_px
    columns = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2) / camera.focal_px
    rays = rows[:, None, None] * up + columns[None, :, None] * right + forward
    rays = (rays / np.linalg.norm(rays, axis=2, keepdims=True)).astype(np.float32)
    height = np.clip(rays[..., 1], 0.0, 1.0)
    rise = (1.0 - (1.0 - height) ** 3)[..., None]
    colour = weather.horizon_RGB + rise * (weather.zenith_RGB - weather.horizon_RGB)
    glow = np.clip(rays @ weather.sun_direction, 0.0, 1.0)[..., None] ** 8
    colour = colour + glow * weather.sun_RGB * 0.35
    # Clouds lie on a plane overhead, so they crowd together towards the horizon.
    stretch = 60.0 / (height + 0.16)
    drift = 0.25 * frame_index + weather.cloud_seed
    tile = noise_tile(weather.cloud_seed % 7 + 20, 1.9)
    thickness = sample_noise(tile, rays[..., 0] * stretch + drift, rays[..., 2] * stretch + 0.3 * drift)
    cloud = np.clip((thickness + 2.4 * weather.cloud_cover - 1.2) * 1.1, 0.0, 1.0)[..., None]
    lining = 1.0 - 0.13 * np.clip(thickness, -1.0, 1.5)[..., None]
    colour = colour + 0.85 * cloud * (weather.cloud_RGB * lining + 0.1 * glow - colour)
    canvas.image[:last_row] = colour
    canvas.mask[:last_row] = SKY


def draw_skyline(canvas: Canvas, street: Street, seed: int) -> None:
    """Stands far roofs and tree tops on the horizon, fixed to their compass bearings."""
    camera = canvas.camera
    width = pi / 60
    light = canvas.weather.ambient_RGB + 0.4 * canvas.weather.sun_RGB
    first = int(np.floor((camera.yaw - 0.8) / width))
    base = camera.height / 2 + camera.focal_px * np.tan(camera.pitch)
    for block in range(first, first + int(1.6 / width) + 1):
        rng = np.random.default_rng([seed, block + 1000])
        is_tree = rng.random() < 0.45
        height = camera.focal_px * rng.uniform(0.03, 0.085)
        ends = camera.focal_px * np.tan(np.array([block, block + 1.25]) * width - camera.yaw) + camera.width / 2
        palette = street.leaf_colours if is_tree else street.wall_colours
        colour = linear(palette[int(rng.integers(len(palette)))]) * light * np.float32(0.7)
        if is_tree:
            angles = np.linspace(pi, 0.0, 9)
            bumps = height * (0.75 + 0.3 * rng.random(9))
            xs = ends.mean() + np.cos(angles) * (ends[1] - ends[0]) * 0.62
            outline = np.stack([xs, base - bumps * (0.45 + 0.55 * np.sin(angles))], axis=1)
            outline = np.concatenate([outline, [[xs[-1], base + 1], [xs[0], base + 1]]])
        else:
            outline = np.array(
                [[ends[0], base - height], [ends[1], base - height], [ends[1], base + 1], [ends[0], base + 1]]
            )
        shape: Floats = outline.astype(np.float32)
        fill_pixels(canvas, shape, colour, TREE if is_tree else BUILDING, _SKYLINE_M)
