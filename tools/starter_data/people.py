"""Pedestrians and cyclists, built from limbs around a walking or pedalling skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np

from starter_data.camera import NEAR_M, to_camera, to_pixels
from starter_data.classes import BICYCLIST, PEDESTRIAN
from starter_data.colour import RGB, Floats, linear
from starter_data.raster import Canvas, clear_air, fill_hull, limb
from starter_data.weather import Weather


@dataclass(frozen=True)
class Outfit:
    """What a person wears; sRGB 0..255. `has_skirt`, `has_coat` and `has_bag` change the outline."""

    top: RGB
    legs: RGB
    skin: RGB
    hair: RGB
    bag: RGB
    has_skirt: bool
    has_coat: bool
    has_bag: bool


@dataclass(frozen=True)
class Pedestrian:
    """Somebody at ground point `foot` (3,), heading by `yaw` (0 walks along +z).

    `stride` is the phase of the gait in radians; None stands still.
    """

    foot: Floats
    yaw: float
    stride: float | None
    stature_m: float
    outfit: Outfit
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


@dataclass(frozen=True)
class Cyclist:
    """Somebody on a bicycle at `foot` (3,), heading by `yaw`; `stroke` is the pedals' angle."""

    foot: Floats
    yaw: float
    stroke: float
    stature_m: float
    outfit: Outfit
    frame: RGB
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


@dataclass(frozen=True)
class _Figure:
    # Draws in the person's own axes (forward, up, right), scaled to the stature.
    canvas: Canvas
    foot: Floats
    axes: Floats
    scale: float
    label: int

    def at(self, forward: float, up: float, right: float) -> Floats:
        local = np.array([forward, up, right], dtype=np.float32) * np.float32(self.scale)
        return np.asarray(self.foot + local @ self.axes, dtype=np.float32)

    def rod(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        radii: tuple[float, float],
        colour: Floats,
    ) -> None:
        thick = (radii[0] * self.scale, radii[1] * self.scale)
        limb(self.canvas, self.at(*start), self.at(*end), thick, colour, self.label)

    def hull(self, points: Sequence[tuple[float, float, float]], radii: list[float], colour: Floats) -> None:
        where = np.stack([self.at(*point) for point in points])
        fill_hull(self.canvas, where, np.asarray(radii, dtype=np.float32) * np.float32(self.scale), colour, self.label)


def _figure(canvas: Canvas, foot: Floats, yaw: float, stature_m: float, label: int) -> _Figure:
    axes = np.array([[sin(yaw), 0, cos(yaw)], [0, 1, 0], [cos(yaw), 0, -sin(yaw)]], dtype=np.float32)
    return _Figure(canvas, foot, axes, stature_m / 1.75, label)


def _lit(canvas: Canvas, colour: RGB, share: float = 1.0) -> Floats:
    light = 0.85 * canvas.weather.ambient_RGB + 0.55 * canvas.weather.sun_RGB
    return np.asarray(linear(colour) * light * np.float32(share), dtype=np.float32)


def _head(figure: _Figure, outfit: Outfit, forward: float, up: float) -> None:
    canvas = figure.canvas
    figure.rod((forward - 0.02, up - 0.14, 0), (forward, up, 0), (0.06, 0.1), _lit(canvas, outfit.skin, 0.8))
    figure.hull([(forward, up, 0), (forward + 0.02, up - 0.06, 0)], [0.12, 0.1], _lit(canvas, outfit.skin))
    figure.hull(
        [(forward - 0.03, up + 0.05, 0), (forward - 0.06, up - 0.02, 0)], [0.115, 0.09], _lit(canvas, outfit.hair)
    )


def draw_pedestrian(canvas: Canvas, person: Pedestrian) -> None:
    """Draws the far leg and arm, the body, then the near ones."""
    figure = _figure(canvas, person.foot, person.yaw, person.stature_m, PEDESTRIAN)
    outfit = person.outfit
    swing = 0.0 if person.stride is None else sin(person.stride)
    lift = 0.0 if person.stride is None else abs(cos(person.stride)) * 0.06
    toward = canvas.camera.position - person.foot
    near = 1.0 if float(toward @ figure.axes[2]) > 0 else -1.0
    legs, shoe = outfit.legs, _lit(canvas, (40, 36, 34))
    for side, share in ((-near, 0.72), (near, 1.0)):
        reach = 0.36 * swing * side
        knee = (0.62 * reach + 0.07, 0.5, 0.11 * side)
        ankle = (reach - 0.05, 0.1 + (lift if reach < 0 else 0.0), 0.11 * side)
        bare = outfit.skin if outfit.has_skirt else legs
        figure.rod((0, 0.92, 0.1 * side), knee, (0.115, 0.085), _lit(canvas, legs, share))
        figure.rod(knee, ankle, (0.08, 0.06), _lit(canvas, bare, share))
        figure.rod((ankle[0] - 0.03, 0.05, ankle[2]), (ankle[0] + 0.15, 0.04, ankle[2]), (0.055, 0.05), shoe)
        if side == -near:
            _arm(figure, outfit, -swing * side, side, 0.7)
            _torso(figure, outfit)
    _arm(figure, outfit, -swing * near, near, 0.9)
    if outfit.has_bag:
        figure.hull([(-0.05, 0.95, 0.3 * near), (0.1, 0.72, 0.3 * near)], [0.12, 0.14], _lit(canvas, outfit.bag))
    _head(figure, outfit, 0.02, 1.63)


def _arm(figure: _Figure, outfit: Outfit, swing: float, side: float, share: float) -> None:
    elbow, hand = (0.14 * swing, 1.12, 0.27 * side), (0.3 * swing + 0.06, 0.86, 0.27 * side)
    figure.rod((0, 1.4, 0.22 * side), elbow, (0.07, 0.06), _lit(figure.canvas, outfit.top, share))
    figure.rod(elbow, hand, (0.058, 0.045), _lit(figure.canvas, outfit.top, share))
    figure.rod(hand, hand, (0.055, 0.055), _lit(figure.canvas, outfit.skin, share))


def _torso(figure: _Figure, outfit: Outfit) -> None:
    canvas = figure.canvas
    if outfit.has_skirt:
        hem = [(0, 0.62, -0.17), (0, 0.62, 0.17), (0, 0.98, 0)]
        figure.hull(hem, [0.12, 0.12, 0.15], _lit(canvas, outfit.legs))
    low = 0.72 if outfit.has_coat else 0.95
    shape = [(0, low, -0.08), (0, low, 0.08), (0, 1.38, -0.17), (0, 1.38, 0.17)]
    figure.hull(shape, [0.13, 0.13, 0.1, 0.1], _lit(canvas, outfit.top))
    figure.rod((0.05, low + 0.05, 0), (0.05, 1.3, 0), (0.05, 0.08), _lit(canvas, outfit.top, 1.18))


def person_shadow(person: Pedestrian | Cyclist, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): a narrow block, longer for a bicycle."""
    half = 0.22 if isinstance(person, Pedestrian) else 0.7
    along = np.array([sin(person.yaw), 0, cos(person.yaw)], dtype=np.float32) * np.float32(half)
    across = np.array([cos(person.yaw), 0, -sin(person.yaw)], dtype=np.float32) * np.float32(0.2)
    base = [person.foot - along, person.foot + along, person.foot - across, person.foot + across]
    top = np.array([0, 0.93 * person.stature_m, 0], dtype=np.float32)
    return [np.stack([*base, person.foot + top - across, person.foot + top + across]).astype(np.float32)]


def _wheel(figure: _Figure, forward: float, colour: Floats) -> None:
    # The tyre is painted as a ring; the label fills the disc, spokes and all.
    canvas = figure.canvas
    angles = np.arange(20) * 2 * pi / 20
    rim = np.stack([figure.at(forward + 0.35 * cos(a), 0.36 + 0.35 * sin(a), 0.0) for a in angles])
    seen = to_camera(canvas.camera, rim)
    if float(seen[:, 2].min()) < NEAR_M:
        return
    pixels = to_pixels(canvas.camera, seen)
    depth = float(seen[:, 2].mean())
    clear = clear_air(canvas.weather, depth)
    mixed = colour * clear + canvas.weather.haze_RGB * (1 - clear)
    thickness = max(1, round(0.09 * canvas.camera.focal_px / depth))
    corners = [np.rint(pixels * 16).astype(np.int32)]
    cv2.fillPoly(canvas.mask, corners, (figure.label,), cv2.LINE_8, 4)
    cv2.polylines(canvas.mask, corners, True, (figure.label,), thickness, cv2.LINE_8, 4)
    cv2.polylines(canvas.image, corners, True, tuple(map(float, mixed)), thickness, cv2.LINE_8, 4)


def _bicycle(figure: _Figure, frame: Floats) -> None:
    tyre = np.asarray(linear((28, 28, 30)) * figure.canvas.weather.ambient_RGB, dtype=np.float32)
    _wheel(figure, -0.52, tyre)
    _wheel(figure, 0.52, tyre)
    tubes = [((-0.52, 0.36), (0, 0.32)), ((-0.52, 0.36), (-0.16, 0.8)), ((0, 0.32), (-0.18, 0.92))]
    tubes += [((0, 0.32), (0.4, 0.8)), ((-0.16, 0.8), (0.4, 0.84)), ((0.52, 0.36), (0.38, 1.02))]
    for (x0, y0), (x1, y1) in tubes:
        figure.rod((x0, y0, 0), (x1, y1, 0), (0.03, 0.03), frame)
    figure.rod((0.4, 1.04, -0.27), (0.4, 1.04, 0.27), (0.03, 0.03), tyre)
    figure.rod((-0.3, 0.94, 0), (-0.06, 0.94, 0), (0.07, 0.04), tyre)


def draw_cyclist(canvas: Canvas, rider: Cyclist) -> None:
    """Draws the far leg, the bicycle, the near leg, then the body leaning on the handlebars."""
    figure = _figure(canvas, rider.foot, rider.yaw, rider.stature_m, BICYCLIST)
    outfit = rider.outfit
    toward = canvas.camera.position - rider.foot
    near = 1.0 if float(toward @ figure.axes[2]) > 0 else -1.0
    ahead = float(toward @ figure.axes[0]) > 0
    for side, share in ((-near, 0.7), (near, 1.0)):
        angle = rider.stroke + (0.0 if side > 0 else pi)
        foot = (0.02 + 0.17 * cos(angle), 0.32 + 0.17 * sin(angle), 0.11 * side)
        knee = (0.2 + 0.1 * cos(angle), 0.74 + 0.12 * sin(angle), 0.13 * side)
        figure.rod((-0.15, 0.98, 0.1 * side), knee, (0.12, 0.085), _lit(canvas, outfit.legs, share))
        figure.rod(knee, foot, (0.08, 0.055), _lit(canvas, outfit.legs, share * 0.92))
        heel, toe = (foot[0] - 0.06, foot[1] - 0.04, foot[2]), (foot[0] + 0.12, foot[1] - 0.05, foot[2])
        figure.rod(heel, toe, (0.05, 0.045), _lit(canvas, (44, 40, 40)))
        if side == -near:
            _bicycle(figure, _lit(canvas, rider.frame))
    if ahead:
        _rider_body(figure, outfit, near)
        _rider_arms(figure, outfit)
    else:
        _rider_arms(figure, outfit)
        _rider_body(figure, outfit, near)
    _head(figure, outfit, 0.33, 1.63)


def _rider_body(figure: _Figure, outfit: Outfit, near: float) -> None:
    shape = [(-0.16, 1.0, -0.08), (-0.16, 1.0, 0.08), (0.2, 1.4, -0.16), (0.2, 1.4, 0.16)]
    figure.hull(shape, [0.14, 0.14, 0.1, 0.1], _lit(figure.canvas, outfit.top))
    if outfit.has_bag:
        figure.hull([(-0.14, 1.2, 0), (0.04, 1.42, 0)], [0.15, 0.13], _lit(figure.canvas, outfit.bag))


def _rider_arms(figure: _Figure, outfit: Outfit) -> None:
    for side in (-1.0, 1.0):
        elbow = (0.36, 1.16, 0.28 * side)
        figure.rod((0.2, 1.4, 0.2 * side), elbow, (0.07, 0.055), _lit(figure.canvas, outfit.top, 0.85))
        figure.rod(elbow, (0.42, 1.06, 0.25 * side), (0.055, 0.045), _lit(figure.canvas, outfit.skin, 0.85))
