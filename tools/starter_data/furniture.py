"""Street furniture: lamp posts, telegraph poles, traffic lights, bollards, signs, and the unlabelled odds and ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from starter_data.classes import POLE, SIGN, VOID
from starter_data.colour import RGB, Floats, linear
from starter_data.raster import Canvas, fill_hull, fill_polygon, limb, outward_normal
from starter_data.weather import Weather, shade

POLE_KINDS = ("lamp", "lamp", "telegraph", "column", "bollard")
SIGN_SHAPES = ("circle", "triangle", "square", "board", "diamond", "octagon", "tall", "lights")


@dataclass(frozen=True)
class Pole:
    """A post at ground point `foot` (3,). `reach_m` is the lamp arm's signed length across the street."""

    foot: Floats
    kind: str
    height_m: float
    radius_m: float
    reach_m: float
    colour: RGB
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


@dataclass(frozen=True)
class Sign:
    """A plate on a post. `turn` is its yaw away from the oncoming driver; colours sRGB 0..255."""

    foot: Floats
    shape: str
    size_m: float
    height_m: float
    turn: float
    face: RGB
    border: RGB
    symbol: RGB
    post: RGB
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


@dataclass(frozen=True)
class Clutter:
    """Something without a class: a bin, a box, a bench, a dog. An upright block at `foot` (3,), turned by `turn`."""

    foot: Floats
    size_m: tuple[float, float, float]
    turn: float
    colour: RGB
    layer: int

    @property
    def along_m(self) -> float:
        """World z."""
        return float(self.foot[2])


def _vector(x: float, y: float, z: float) -> Floats:
    return np.array([x, y, z], dtype=np.float32)


def _post(canvas: Canvas, foot: Floats, height_m: float, radius_m: float, colour: RGB) -> None:
    # Three strips make a round post: shaded body, and a lighter strip on the side of the sun.
    weather = canvas.weather
    top = foot + _vector(0, height_m, 0)
    paint = linear(colour)
    dim = paint * (weather.ambient_RGB * 0.7 + 0.12 * weather.sun_RGB)
    limb(canvas, foot, top, (radius_m * 1.1, radius_m * 0.85), dim, POLE)
    side = _vector(0.4 * radius_m * (1.0 if weather.sun_direction[0] > 0 else -1.0), 0, 0)
    bright = paint * (weather.ambient_RGB + 0.75 * weather.sun_RGB)
    limb(canvas, foot + side, top + side, (radius_m * 0.5, radius_m * 0.4), bright, POLE)


def draw_pole(canvas: Canvas, pole: Pole) -> None:
    """Draws the post with its arm, lamp or cross-bars."""
    top = pole.foot + _vector(0, pole.height_m, 0)
    weather = canvas.weather
    paint = linear(pole.colour) * (weather.ambient_RGB * 0.8 + 0.3 * weather.sun_RGB)
    thick = pole.radius_m
    if pole.kind == "lamp":
        tip = top + _vector(pole.reach_m, 0.35, 0)
        limb(canvas, top - _vector(0, 0.2, 0), tip, (thick * 0.8, thick * 0.6), paint, POLE)
        lamp = np.array([2.6, 1.9, 0.9], dtype=np.float32) if weather.lamps_on > 0.3 else paint * np.float32(1.3)
        limb(canvas, tip, tip + _vector(0.28 * pole.reach_m, 0.02, 0), (0.12, 0.09), lamp, POLE)
    elif pole.kind == "telegraph":
        for drop in (0.3, 0.9):
            bar = top - _vector(0, drop, 0)
            limb(canvas, bar - _vector(0.9, 0, 0), bar + _vector(0.9, 0, 0), (0.06, 0.06), paint, POLE)
    elif pole.kind == "column":
        fill_hull(canvas, np.stack([top, top + _vector(0, 0.3, 0)]), np.array([0.24, 0.16], np.float32), paint, POLE)
    _post(canvas, pole.foot, pole.height_m, thick, pole.colour)


def pole_shadow(pole: Pole, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): a narrow upright card across the sun."""
    wide = _vector(weather.sun_direction[2], 0, -weather.sun_direction[0]) * np.float32(pole.radius_m * 1.2)
    top = pole.foot + _vector(0, pole.height_m, 0)
    return [np.stack([pole.foot - wide, pole.foot + wide, top - wide, top + wide])]


def _outline(shape: str) -> Floats:
    # Plate outlines in plate widths, (N, 2): x across, y up.
    if shape == "triangle":
        return np.array([[-0.58, -0.42], [0.58, -0.42], [0.0, 0.58]], dtype=np.float32)
    if shape in ("square", "board", "tall"):
        wide, high = {"square": (0.46, 0.46), "board": (0.85, 0.5), "tall": (0.42, 0.66)}[shape]
        return np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]], dtype=np.float32)
    corners, first = {"circle": (16, 0.0), "octagon": (8, pi / 8), "diamond": (4, 0.0)}[shape]
    angles = first + np.arange(corners) * 2 * pi / corners
    return (0.53 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def draw_sign(canvas: Canvas, sign: Sign) -> None:
    """Draws the post, then the plate with border and symbol, or the three lamps of a traffic light."""
    middle = sign.foot + _vector(0, sign.height_m, 0)
    _post(canvas, sign.foot, sign.height_m + (0.2 if sign.shape == "lights" else 0.0), 0.09, sign.post)
    if sign.shape == "lights":
        _draw_lights(canvas, sign, middle)
        return
    across = _vector(cos(sign.turn), 0, sin(sign.turn)) * np.float32(sign.size_m)
    toward = _vector(sin(sign.turn), 0, -cos(sign.turn))
    light = np.minimum(shade(canvas.weather, toward) * 1.15, 1.2)
    up = _vector(0, sign.size_m, 0)
    outline = _outline(sign.shape)
    for shrink, colour in ((1.0, sign.border), (0.8, sign.face)):
        plate = middle + shrink * (outline[:, :1] * across + outline[:, 1:] * up) + toward * 0.1
        fill_polygon(canvas, plate.astype(np.float32), linear(colour) * light, SIGN)
    if sign.shape == "board":
        bars = [(-0.6, 0.5, 0.22), (-0.6, 0.2, -0.02), (-0.6, 0.4, -0.28)]
    else:
        bars = [(-0.22, 0.22, 0.06), (-0.08, 0.08, -0.16)]
    for left, right, low in bars:
        corners = np.array([[left, low], [right, low], [right, low + 0.13], [left, low + 0.13]], dtype=np.float32)
        stroke = middle + corners[:, :1] * across + corners[:, 1:] * up + toward * 0.12
        fill_polygon(canvas, stroke.astype(np.float32), linear(sign.symbol) * light, SIGN)


def _draw_lights(canvas: Canvas, sign: Sign, middle: Floats) -> None:
    weather = canvas.weather
    case = linear((34, 36, 36)) * (weather.ambient_RGB + 0.4 * weather.sun_RGB)
    across = _vector(0.29 * sign.size_m, 0, 0)
    up = _vector(0, 0.78 * sign.size_m, 0)
    box = np.stack([middle - across - up, middle + across - up, middle + across + up, middle - across + up])
    fill_polygon(canvas, box, linear(sign.border) * (weather.ambient_RGB + 0.3 * weather.sun_RGB), SIGN)
    fill_polygon(canvas, (middle + 0.84 * (box - middle)).astype(np.float32), case, SIGN)
    lit = int(sign.turn * 1000) % 3
    lamps = ((1.6, 0.08, 0.05), (1.5, 0.8, 0.05), (0.1, 1.4, 0.5))
    for index, lamp in enumerate(lamps):
        spot = middle + up * np.float32(0.58 - 0.58 * index) + _vector(0, 0, -0.1)
        glow = np.asarray(lamp, np.float32) * np.float32(1.0 if index == lit else 0.06)
        fill_hull(canvas, spot[None], np.array([0.17 * sign.size_m], np.float32), glow, SIGN)


def sign_shadow(sign: Sign, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): the plate's shadow."""
    half = 0.4 * sign.size_m
    middle = sign.foot + _vector(0, sign.height_m, 0)
    return [np.stack([middle + _vector(dx, dy, 0) for dx in (-half, half) for dy in (-half, half)])]


def block_corners(foot: Floats, size_m: tuple[float, float, float], turn: float) -> Floats:
    """The eight corners (8, 3) of an upright block: width, height, length; four below, then four above."""
    width, height, length = size_m
    across = _vector(cos(turn), 0, sin(turn)) * np.float32(width / 2)
    along = _vector(-sin(turn), 0, cos(turn)) * np.float32(length / 2)
    feet = [foot - across - along, foot + across - along, foot + across + along, foot - across + along]
    return np.stack(feet + [corner + _vector(0, height, 0) for corner in feet])


def draw_clutter(canvas: Canvas, clutter: Clutter) -> None:
    """Draws the block's visible faces, labelled void."""
    corners = block_corners(clutter.foot, clutter.size_m, clutter.turn)
    inside = corners.mean(axis=0)
    faces = [(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7)]
    for face in faces:
        quad = corners[list(face)]
        normal = outward_normal(quad, inside)
        if float(normal @ (canvas.camera.position - quad.mean(axis=0))) > 0:
            fill_polygon(canvas, quad, linear(clutter.colour) * shade(canvas.weather, normal), VOID)


def clutter_shadow(clutter: Clutter, weather: Weather) -> list[Floats]:
    """Point sets (N, 3): the whole block."""
    return [block_corners(clutter.foot, clutter.size_m, clutter.turn)]
