"""Cars, vans and trucks: a side profile extruded to a body, with glass, lights, plates and wheels."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from starter_data.classes import CAR
from starter_data.colour import RGB, Floats, linear
from starter_data.raster import Canvas, fill_hull, fill_polygon, outward_normal
from starter_data.weather import Weather, shade

# Profiles in metres: length, width; then x of: end of boot, rear and front end of roof, foot of windscreen;
# then heights of: boot, belt line, roof, bonnet.
_BODIES: dict[str, tuple[float, ...]] = {
    "hatch": (3.9, 1.72, -1.85, -1.35, 0.25, 1.05, 0.92, 0.95, 1.47, 0.8),
    "sedan": (4.5, 1.78, -1.45, -0.85, 0.35, 1.15, 0.96, 0.96, 1.43, 0.8),
    "estate": (4.6, 1.78, -2.22, -1.95, 0.3, 1.15, 0.95, 0.95, 1.47, 0.8),
    "suv": (4.5, 1.88, -2.15, -1.8, 0.4, 1.15, 1.08, 1.1, 1.74, 1.0),
    "van": (5.0, 1.95, -2.48, -2.42, 1.35, 2.1, 1.1, 1.12, 2.15, 1.05),
    "truck": (6.6, 2.3, -3.28, -3.26, 2.5, 3.15, 1.25, 1.3, 2.9, 1.25),
}
BODY_KINDS = ("hatch", "sedan", "estate", "suv", "hatch", "van", "sedan", "truck")


@dataclass(frozen=True)
class Car:
    """A vehicle: its middle on the ground `foot` (3,), heading by `yaw` (0 drives along +z), paint sRGB 0..255."""

    foot: Floats
    yaw: float
    body: str
    paint: RGB
    lights_on: bool
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


@dataclass(frozen=True)
class _Shell:
    # Upright outline (8, 3): x forward, y up, half width; from the rear sill over the roof to the front sill.
    outline: Floats
    length: float
    width: float


def _shell(body: str) -> _Shell:
    length, width, boot, roof_rear, roof_front, screen, boot_y, belt, roof_y, bonnet_y = _BODIES[body]
    half, sill = width / 2, 0.28
    top = half * (0.95 if body in ("van", "truck") else 0.8)
    rows = [
        (-length / 2, sill, half * 0.96),
        (-length / 2 + 0.03, boot_y, half * 0.98),
        (boot, belt, half),
        (roof_rear, roof_y, top),
        (roof_front, roof_y, top),
        (screen, belt, half),
        (length / 2 - 0.08, bonnet_y, half * 0.95),
        (length / 2, sill, half * 0.93),
    ]
    return _Shell(np.array(rows, dtype=np.float32), length, width)


def _to_world(car: Car, points_N3: Floats) -> Floats:
    # Car axes: forward, up, right.
    forward = np.array([sin(car.yaw), 0, cos(car.yaw)], dtype=np.float32)
    right = np.array([cos(car.yaw), 0, -sin(car.yaw)], dtype=np.float32)
    up = np.array([0, 1, 0], dtype=np.float32)
    return (car.foot + points_N3 @ np.stack([forward, up, right])).astype(np.float32)


def _sided(outline: Floats, rows: list[int], side: float) -> Floats:
    return (outline[rows] * np.array([1, 1, side], dtype=np.float32)).astype(np.float32)


def _inset(quad: Floats, x0: float, y0: float, x1: float, y1: float) -> Floats:
    # A rectangle inside a quad, in the quad's own 0..1 coordinates.
    # Corners run left-low, right-low, right-high, left-high.
    def at(x: float, y: float) -> Floats:
        low = quad[0] + x * (quad[1] - quad[0])
        high = quad[3] + x * (quad[2] - quad[3])
        return np.asarray(low + y * (high - low), dtype=np.float32)

    return np.stack([at(x0, y0), at(x1, y0), at(x1, y1), at(x0, y1)])


def _wheels(canvas: Canvas, car: Car, shell: _Shell) -> None:
    radius = 0.33 if car.body not in ("van", "truck") else 0.4
    tyre = linear((26, 26, 28)) * canvas.weather.ambient_RGB
    reach = shell.length / 2 - (0.78 if car.body != "truck" else 1.1)
    for forward in (-reach, reach):
        for side in (-1.0, 1.0):
            angles = np.arange(10) * 2 * np.pi / 10
            rim = np.stack([forward + radius * np.cos(angles), radius + radius * np.sin(angles), 0 * angles], axis=1)
            depths = [side * (shell.width / 2 + 0.01), side * (shell.width / 2 - 0.22)]
            rings = np.concatenate([rim + np.array([0, 0, depth]) for depth in depths])
            fill_hull(canvas, _to_world(car, rings), np.full(20, 0.005, np.float32), tyre, CAR)


def _hubs(canvas: Canvas, car: Car, shell: _Shell, side: float) -> None:
    radius = 0.33 if car.body not in ("van", "truck") else 0.4
    light = canvas.weather.ambient_RGB + 0.3 * canvas.weather.sun_RGB
    reach = shell.length / 2 - (0.78 if car.body != "truck" else 1.1)
    angles = np.arange(12) * 2 * np.pi / 12
    for forward in (-reach, reach):
        for share, colour in ((1.22, (14, 14, 16)), (1.0, (34, 34, 36)), (0.58, (150, 152, 156)), (0.2, (70, 70, 74))):
            rim = np.stack([share * np.cos(angles), 1 + share * np.sin(angles), 0 * angles], axis=1) * radius
            disc = rim + np.array([forward, 0, side * (shell.width / 2 + 0.015)])
            if share > 1.1:
                disc[:, 1] = np.maximum(disc[:, 1], 0.28)
            fill_polygon(canvas, _to_world(car, disc.astype(np.float32)), linear(colour) * light, CAR)


def _glass(canvas: Canvas, normal: Floats) -> Floats:
    # Glass is dark inside and mirrors some sky, more so when it leans back.
    shine = np.float32(0.06 + 0.3 * max(0.0, float(normal[1])))
    return np.asarray(np.float32(0.015) + canvas.weather.horizon_RGB * shine, dtype=np.float32)


def _draw_side(canvas: Canvas, car: Car, shell: _Shell, side: float, light: Floats) -> None:
    paint = linear(car.paint)
    lower = _to_world(car, _sided(shell.outline, [0, 1, 2, 5, 6, 7], side))
    cabin = _to_world(car, _sided(shell.outline, [2, 5, 4, 3], side))
    fill_polygon(canvas, cabin, paint * light, CAR)
    fill_polygon(canvas, lower, paint * light, CAR)
    low = lower.copy()
    low[[1, 2, 3, 4], 1] = 0.5
    fill_polygon(canvas, low[[0, 1, 4, 5]], paint * light * np.float32(0.62), CAR)
    glass = _glass(canvas, np.array([0, 0.25, 0], np.float32))
    spans = [(0.1, 0.49), (0.53, 0.93)]
    if car.body in ("van", "truck"):
        spans = [(0.84, 0.97)]
    for left, right in spans:
        fill_polygon(canvas, _inset(cabin, left, 0.1, right, 0.86), glass, CAR)
    door = _inset(lower[[0, 5, 3, 2]], 0.5, 0.1, 0.512, 0.98)
    fill_polygon(canvas, door, paint * light * np.float32(0.45), CAR)
    _hubs(canvas, car, shell, side)


def _draw_end(canvas: Canvas, car: Car, quad: Floats, light: Floats, is_rear: bool) -> None:
    fill_polygon(canvas, quad, linear(car.paint) * light, CAR)
    trim = linear((40, 40, 42)) * light
    fill_polygon(canvas, _inset(quad, 0.0, 0.0, 1.0, 0.2), trim, CAR)
    fill_polygon(canvas, _inset(quad, 0.36, 0.28, 0.64, 0.48), linear((222, 212, 150)) * light, CAR)
    if is_rear:
        glow = np.array([1.1, 0.05, 0.03], dtype=np.float32) if car.lights_on else linear((170, 24, 24)) * light
    else:
        fill_polygon(canvas, _inset(quad, 0.28, 0.55, 0.72, 0.82), trim, CAR)
        glow = np.array([2.2, 2.1, 1.8], dtype=np.float32) if car.lights_on else linear((214, 216, 220)) * light
    for left, right in ((0.02, 0.2), (0.8, 0.98)):
        fill_polygon(canvas, _inset(quad, left, 0.56, right, 0.88), glow, CAR)


def draw_car(canvas: Canvas, car: Car) -> None:
    """Draws the wheels, then the faces that look at the camera from far to near, each with its details."""
    shell = _shell(car.body)
    inside = _to_world(car, np.array([[0, 0.8, 0]], dtype=np.float32))[0]
    _wheels(canvas, car, shell)
    faces: list[tuple[int, Floats]] = []
    for strip in range(7):
        quad = np.concatenate([_sided(shell.outline, [strip], side) for side in (-1.0, 1.0)])
        quad = np.concatenate([quad, _sided(shell.outline, [strip + 1], 1.0), _sided(shell.outline, [strip + 1], -1.0)])
        faces.append((strip, _to_world(car, quad)))
    for index, side in ((7, -1.0), (8, 1.0)):
        faces.append((index, _to_world(car, _sided(shell.outline, [0, 2, 5, 7], side))))
    eye = canvas.camera.position
    seen: list[tuple[float, int, Floats, Floats]] = []
    for index, quad in faces:
        normal = outward_normal(quad, inside)
        if float(normal @ (eye - quad.mean(axis=0))) > 0:
            seen.append((float(np.linalg.norm(eye - quad.mean(axis=0))), index, quad, normal))
    for _, index, quad, normal in sorted(seen, key=lambda face: -face[0]):
        light = shade(canvas.weather, normal)
        if index >= 7:
            _draw_side(canvas, car, shell, -1.0 if index == 7 else 1.0, light)
        elif index in (0, 6):
            # The front outline runs downwards, the rear one upwards; details want low edge first.
            _draw_end(canvas, car, quad if index == 0 else quad[[3, 2, 1, 0]], light, index == 0)
        else:
            fill_polygon(canvas, quad, linear(car.paint) * light, CAR)
            has_glass = index == 4 or (index == 2 and car.body != "truck")
            if has_glass:
                fill_polygon(canvas, _inset(quad, 0.07, 0.1, 0.93, 0.9), _glass(canvas, normal), CAR)


def car_footprint(car: Car, grow: float = 1.0) -> Floats:
    """Ground corners (4, 3) of the body, scaled by `grow`."""
    shell = _shell(car.body)
    half_length, half_width = grow * shell.length / 2, grow * shell.width / 2
    corners = [(half_length, 0, -half_width), (half_length, 0, half_width)]
    corners += [(-half_length, 0, half_width), (-half_length, 0, -half_width)]
    return _to_world(car, np.array(corners, dtype=np.float32))


def car_shadow(car: Car, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): sills and roof."""
    shell = _shell(car.body)
    rows = np.concatenate([_sided(shell.outline, [0, 2, 3, 4, 5, 7], side) for side in (-1.0, 1.0)])
    return [_to_world(car, rows)]
