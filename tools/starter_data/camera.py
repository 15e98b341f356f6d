"""A pinhole camera above a flat street, and near-plane clipping.

World axes: x right, y up, z along the street, in metres. Camera axes: x right, y up, z forward.
Pixels: x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from starter_data.colour import Floats

NEAR_M = 0.4


@dataclass(frozen=True)
class Camera:
    """One pose and lens. `height` and `width` are those of the supersampled canvas, in pixels."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float
    focal_px: float
    height: int
    width: int

    @property
    def axes(self) -> Floats:
        """Rows right, up, forward in world coordinates: (3, 3) float32."""
        sy, cy, sp, cp = sin(self.yaw), cos(self.yaw), sin(self.pitch), cos(self.pitch)
        return np.array([[cy, 0.0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]], dtype=np.float32)

    @property
    def position(self) -> Floats:
        """Where the camera stands, (3,) float32, metres."""
        return np.array([self.x, self.y, self.z], dtype=np.float32)


def to_camera(camera: Camera, points_N3: Floats) -> Floats:
    """World points (N, 3) to camera coordinates (N, 3), metres; the last column is the depth."""
    return ((points_N3 - camera.position) @ camera.axes.T).astype(np.float32)


def to_pixels(camera: Camera, points_N3: Floats) -> Floats:
    """Camera coordinates (N, 3) with positive depth to pixels (N, 2)."""
    scale = camera.focal_px / points_N3[:, 2]
    across = camera.width / 2 + points_N3[:, 0] * scale
    down = camera.height / 2 - points_N3[:, 1] * scale
    return np.stack([across, down], axis=1).astype(np.float32)


def clip_near(points_N3: Floats) -> Floats:
    """Cuts a polygon in camera coordinates at the near plane (Sutherland-Hodgman); may come back empty, (M, 3)."""
    depths = points_N3[:, 2]
    if depths.min() >= NEAR_M:
        return points_N3
    kept: list[Floats] = []
    for index in range(len(points_N3)):
        here, there = points_N3[index - 1], points_N3[index]
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            kept.append(here + (there - here) * ((NEAR_M - here[2]) / (there[2] - here[2])))
        if there[2] >= NEAR_M:
            kept.append(there)
    return np.array(kept, dtype=np.float32).reshape(-1, 3)
