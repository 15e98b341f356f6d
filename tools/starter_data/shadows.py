"""Shadows on the ground: each object's outline projected along the sun's rays, and the dark area under a car."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from starter_data.camera import Camera, clip_near, to_camera, to_pixels
from starter_data.colour import Floats
from starter_data.raster import Canvas


def _fill_ground(camera: Camera, shade_HW: npt.NDArray[np.uint8], hull_N3: Floats) -> None:
    seen = clip_near(to_camera(camera, hull_N3))
    if len(seen) >= 3:
        corners = np.rint(np.clip(to_pixels(camera, seen), -3e4, 3e4) * 16).astype(np.int32)
        cv2.fillPoly(shade_HW, [corners], (255,), cv2.LINE_8, 4)


def cast_shadows(camera: Camera, sun_direction: Floats, outlines: list[Floats]) -> Floats:
    """Where the sun reaches the ground.

    Args:
        camera: size and pose of the canvas.
        sun_direction: (3,) towards the sun.
        outlines: point sets (N, 3), world metres; each throws the shadow of its hull.

    Returns:
        H x W float32, 0 in full shadow .. 1 in full sun.
    """
    shade_HW = np.zeros((camera.height, camera.width), dtype=np.uint8)
    slide = sun_direction / sun_direction[1]
    for points in outlines:
        fallen = points - points[:, 1:2] * slide
        hull = np.asarray(cv2.convexHull(fallen[:, [0, 2]].astype(np.float32)), dtype=np.float32).reshape(-1, 2)
        if float(hull[:, 1].max()) < camera.z or len(hull) < 3:
            continue
        flat = np.stack([hull[:, 0], np.zeros(len(hull), np.float32), hull[:, 1]], axis=1)
        _fill_ground(camera, shade_HW, flat)
    # The sun is a disc: no shadow has a hard edge.
    soft = cv2.GaussianBlur(shade_HW, (0, 0), sigmaX=max(0.8, camera.height / 300.0))
    return (1.0 - soft.astype(np.float32) / 255.0).astype(np.float32)


def darken_ground(canvas: Canvas, footprints: list[Floats], strength: float) -> None:
    """Darkens the drawn ground under things that hide most of the sky from it; footprints are (N, 3), world metres."""
    shade_HW = np.zeros(canvas.mask.shape, dtype=np.uint8)
    for footprint in footprints:
        _fill_ground(canvas.camera, shade_HW, footprint)
    rows = np.flatnonzero(shade_HW.any(axis=1))
    if rows.size:
        top = max(0, int(rows[0]) - 8)
        soft = cv2.GaussianBlur(shade_HW[top:], (0, 0), sigmaX=max(1.0, canvas.camera.height / 130.0))
        canvas.image[top:] *= (1.0 - strength * soft.astype(np.float32) / 255.0)[..., None]
