"""The objects along the street. Each stretch has its own seed, so the street never ends and never repeats.

Layers order the drawing: along any line of sight, nearer things stand closer to the middle of the road, so buildings
come first and traffic last; within a layer, far comes before near.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from starter_data.buildings import Building
from starter_data.cars import BODY_KINDS, Car
from starter_data.colour import EARTH, LEAF, PAINT, PASTEL, RGB, SKIN, STONE, VIVID, Floats, pick
from starter_data.facades import MATERIALS, Facade
from starter_data.fences import FENCE_KINDS, Fence
from starter_data.furniture import POLE_KINDS, SIGN_SHAPES, Clutter, Pole, Sign
from starter_data.ground import Ground, Junction
from starter_data.people import Cyclist, Outfit, Pedestrian
from starter_data.street import Side, Street
from starter_data.vegetation import KINDS, Tree
from starter_data.weather import Weather

STRETCH_M = 18.0
_JACKETS: tuple[RGB, ...] = ((206, 214, 60), (226, 120, 44))
BACKDROP, HOUSES, GARDEN, FENCES, PAVEMENT_THINGS, RAILINGS, TRAFFIC = range(-1, 6)

Thing: TypeAlias = Building | Tree | Pole | Sign | Fence | Car | Pedestrian | Cyclist | Clutter


@dataclass(frozen=True)
class Stretch:
    """Everything that stands still on one stretch of street, and the stretch's side streets and crossings."""

    things: tuple[Thing, ...]
    ground: Ground


@dataclass(frozen=True)
class _Plot:
    # One side of one stretch under construction.
    rng: np.random.Generator
    street: Street
    side: Side
    weather: Weather
    start: float
    open_from: float  # a side street takes the metres before this one

    def spot(self, out_m: float, along_m: float) -> Floats:
        return self.street.spot(self.side.sign * out_m, along_m)

    def along(self, margin: float = 0.5) -> float:
        return float(self.rng.uniform(self.open_from + margin, self.start + STRETCH_M - margin))


def _facade(plot: _Plot, width: float, height: float, material: str, is_front: bool, has_shop: bool) -> Facade:
    rng = plot.rng
    glass = 0.5 * (plot.weather.horizon_RGB + plot.weather.zenith_RGB)
    red, green, blue = (round(float(value), 4) for value in np.minimum(glass, 1.0))
    return Facade(
        seed=int(rng.integers(1 << 30)),
        material=material,
        width_m=round(width, 1),
        height_m=round(height, 1),
        wall=pick(rng, plot.street.wall_colours, 0.08),
        trim=pick(rng, (*PASTEL[:2], *STONE[:4], *PAINT[:3])),
        glass=(red, green, blue),
        has_shop=has_shop,
        has_openings=is_front or bool(rng.random() < 0.3),
        lit=plot.weather.lamps_on,
    )


def _house(plot: _Plot, near: float, far: float, line: float, layer: int, low: float, high: float) -> Building:
    rng, layout = plot.rng, plot.side.layout
    # Shares of brick, plaster, concrete, glass and boards.
    shares = (0.15, 0.2, 0.3, 0.35, 0.0) if layout == "commercial" else (0.4, 0.34, 0.08, 0.0, 0.18)
    material = MATERIALS[int(rng.choice(len(MATERIALS), p=shares))]
    height = float(rng.uniform(low, high))
    has_shop = layout in ("terrace", "commercial") and bool(rng.random() < (0.75 if layout == "commercial" else 0.35))
    front = _facade(plot, far - near, height, material, True, has_shop)
    depth = float(rng.uniform(7.0, 11.0))
    gable = _facade(plot, depth, height, material if material != "glass" else "concrete", False, False)
    pitched = layout != "commercial" and rng.random() < 0.8
    return Building(
        front_near=plot.spot(line, near),
        front_far=plot.spot(line, far),
        back=np.array([plot.side.sign, 0, 0], dtype=np.float32),
        depth_m=depth,
        front=front,
        gable=gable if rng.random() < 0.2 else _repaint(gable, front),
        roof_m=float(rng.uniform(1.8, 3.2)) if pitched else 0.0,
        roof_colour=pick(rng, (*EARTH[:3], *STONE[:4], *EARTH[5:])),
        layer=layer,
    )


def _repaint(gable: Facade, front: Facade) -> Facade:
    values = {**gable.__dict__, "wall": front.wall}
    return Facade(**values)


def _tree(plot: _Plot, out: float, along: float, layer: int, kind: str, size: float) -> Tree:
    rng = plot.rng
    wide, high, trunk = {
        "round": (3.8, 3.8, 2.3),
        "tall": (2.3, 6.5, 1.6),
        "conifer": (3.0, 6.0, 0.8),
        "bush": (2.2, 1.5, -0.12),
        "sparse": (3.6, 4.0, 2.2),
    }[kind]
    return Tree(
        foot=plot.spot(out, along),
        kind=kind,
        seed=int(rng.integers(1 << 30)),
        crown_width_m=wide * size,
        crown_height_m=high * size * float(rng.uniform(0.85, 1.15)),
        trunk_m=trunk,
        leaf=plot.street.leaf_colours[int(rng.integers(3))],
        bark=pick(rng, (*EARTH[4:], *STONE[:1], *STONE[5:6])),
        layer=layer,
    )


def _buildings(plot: _Plot) -> list[Thing]:
    rng, side = plot.rng, plot.side
    end = plot.start + STRETCH_M
    things: list[Thing] = []
    if plot.open_from > plot.start:
        things.append(_house(plot, plot.start - 7, plot.start + 15, side.building_line + 13, BACKDROP, 6.0, 11.0))
    if side.layout == "park":
        things.append(_house(plot, plot.start, end, side.building_line + 16, BACKDROP, 6.0, 14.0))
        for _ in range(5):
            kind = KINDS[int(rng.integers(len(KINDS)))]
            out = side.building_line - rng.uniform(0, 6.5)
            things.append(_tree(plot, out, plot.along(), HOUSES, kind, rng.uniform(1.1, 1.9)))
        for _ in range(6):
            things.append(_tree(plot, side.building_line - 7.6, plot.along(), GARDEN, "bush", rng.uniform(0.8, 1.5)))
        return things
    low, high = {"terrace": (7.0, 12.0), "commercial": (10.0, 24.0), "detached": (5.2, 8.0)}[side.layout]
    if side.layout == "detached":
        width = rng.uniform(9.0, 13.0)
        near = plot.open_from + rng.uniform(0.0, max(0.1, STRETCH_M - width - (plot.open_from - plot.start)))
        things.append(_house(plot, near, min(end, near + width), side.building_line, HOUSES, low, high))
        for along in (near - 2.5, near + width + 2.5):
            if plot.open_from < along < end:
                kind = KINDS[int(rng.integers(len(KINDS)))]
                things.append(_tree(plot, side.building_line + 1.5, along, HOUSES, kind, rng.uniform(0.9, 1.4)))
        return things
    count = int(rng.integers(1, 3)) if side.layout == "commercial" else int(rng.integers(2, 4))
    cuts = np.linspace(plot.open_from, end, count + 1)
    for near, far in pairwise(cuts):
        if rng.random() < 0.07:
            things.append(_tree(plot, side.building_line + 2.5, float(near + far) / 2, HOUSES, "round", 1.4))
        else:
            things.append(_house(plot, float(near), float(far), side.building_line, HOUSES, low, high))
    return things


def _draw_fence_style(rng: np.random.Generator) -> tuple[str, RGB, float]:
    kind = FENCE_KINDS[int(rng.integers(len(FENCE_KINDS)))]
    height = {"bars": 1.5, "boards": 1.6, "hedge": 1.4, "mesh": 1.9, "rails": 1.2}[kind] * rng.uniform(0.8, 1.15)
    colours = {"boards": (*EARTH, *PAINT[:2]), "hedge": LEAF, "mesh": STONE, "rails": (*PAINT[:3], *EARTH)}
    return kind, pick(rng, colours.get(kind, PAINT)), float(height)


def _fences(plot: _Plot) -> list[Thing]:
    rng, side, things = plot.rng, plot.side, list[Thing]()
    back = side.road_edge + side.pavement_width
    share = {"park": 1.0, "detached": 0.9, "terrace": 0.65 if side.setback > 0 else 0.0, "commercial": 0.0}[side.layout]
    kind, colour, height = _draw_fence_style(rng)
    along = plot.open_from
    while along + 3.0 <= plot.start + STRETCH_M + 0.01:
        ends = plot.spot(back, along), plot.spot(back, along + 3.0)
        seed = int(rng.integers(8))
        if rng.random() < share:
            things.append(Fence(*ends, kind, height, colour, seed, FENCES))
        along += 3.0
    if side.has_railing and rng.random() < 0.75 and plot.open_from == plot.start:
        first = plot.start + 3.0 * float(rng.integers(0, 3))
        kind = "bars" if side.sign * plot.street.bend_m > 0 else "rails"
        for index in range(int(rng.integers(2, 5))):
            near = first + 3.0 * index
            ends = plot.spot(side.road_edge + 0.35, near), plot.spot(side.road_edge + 0.35, near + 3.0)
            things.append(Fence(*ends, kind, 1.1, plot.street.pole_colour, 1, RAILINGS))
    return things


def _furniture(plot: _Plot, index: int) -> list[Thing]:
    rng, side, street = plot.rng, plot.side, plot.street
    kerb = side.road_edge + 0.5
    things: list[Thing] = []
    kind = POLE_KINDS[int(rng.integers(len(POLE_KINDS)))]
    if (index + (side.sign > 0)) % 2 == 0:
        kind = "lamp"
    height = {"lamp": 5.8, "telegraph": 6.8, "column": 3.2, "bollard": 1.05}[kind] * float(rng.uniform(0.9, 1.1))
    radius = street.pole_radius_m * {"lamp": 1.0, "telegraph": 1.35, "column": 1.0, "bollard": 1.0}[kind]
    arm = -side.sign * float(rng.uniform(0.9, 1.6))
    first = plot.along()
    for number in range(3 if kind == "bollard" else 1):
        things.append(
            Pole(plot.spot(kerb, first + 1.6 * number), kind, height, radius, arm, street.pole_colour, PAVEMENT_THINGS)
        )
    for _ in range(int(rng.integers(1, 4))):
        shape = SIGN_SHAPES[int(rng.integers(len(SIGN_SHAPES)))]
        face, border = pick(rng, VIVID, 0.08), pick(rng, VIVID, 0.08)
        things.append(
            Sign(
                foot=plot.spot(kerb + float(rng.uniform(-0.2, 0.5)), plot.along()),
                shape=shape,
                size_m=float(rng.uniform(0.7, 0.95)) * (1.15 if shape in ("board", "tall") else 1.0),
                height_m=float(rng.uniform(2.1, 2.8)),
                turn=float(rng.uniform(-0.35, 0.35)),
                face=face,
                border=border,
                symbol=pick(rng, VIVID, 0.08),
                post=street.pole_colour,
                layer=PAVEMENT_THINGS,
            )
        )
    if rng.random() < {"park": 0.8, "detached": 0.85, "terrace": 0.6, "commercial": 0.65}[side.layout]:
        kind = ("round", "sparse", "round", "tall")[int(rng.integers(4))]
        things.append(_tree(plot, kerb + 0.2, plot.along(), PAVEMENT_THINGS, kind, rng.uniform(0.9, 1.35)))
    if rng.random() < 0.6:
        size = (float(rng.uniform(0.45, 0.8)), float(rng.uniform(0.6, 1.2)), float(rng.uniform(0.4, 1.3)))
        spot = plot.spot(kerb + side.pavement_width - 1.2, plot.along())
        things.append(Clutter(spot, size, float(rng.uniform(0, 3)), pick(rng, (*PAINT, *STONE)), PAVEMENT_THINGS))
    return things


def _parked(plot: _Plot) -> list[Thing]:
    rng, side = plot.rng, plot.side
    things: list[Thing] = []
    if side.has_parking:
        for bay in np.arange(plot.open_from + 3.0, plot.start + STRETCH_M - 2.0, 6.0):
            if rng.random() < 0.5:
                foot = plot.spot(side.road_edge - 1.05, float(bay) + float(rng.uniform(-0.3, 0.3)))
                yaw = np.arctan(plot.street.slope(float(bay))) + (np.pi if rng.random() < 0.5 else 0.0)
                body = BODY_KINDS[int(rng.integers(len(BODY_KINDS) - 1))]
                things.append(Car(foot, float(yaw), body, pick(rng, PAINT), False, TRAFFIC))
    if side.layout == "detached" and rng.random() < 0.4:
        foot = plot.spot(side.building_line - 2.9, plot.along(2.5))
        things.append(Car(foot, side.sign * float(rng.uniform(1.4, 1.7)), "hatch", pick(rng, PAINT), False, GARDEN))
    return things


def draw_outfit(rng: np.random.Generator, is_rider: bool = False) -> Outfit:
    """Draws somebody's clothes; riders often wear a bright jacket and mostly a helmet."""
    return Outfit(
        top=pick(rng, (*PAINT, *STONE, *VIVID, *(_JACKETS * 8 if is_rider else ())), 0.2),
        legs=pick(rng, (*PAINT[2:8], *STONE, *EARTH), 0.2),
        skin=pick(rng, SKIN, 0.06),
        hair=pick(rng, (*EARTH, (34, 28, 26), (60, 50, 44), (170, 160, 150), *(VIVID * 2 if is_rider else PAINT[:6]))),
        bag=pick(rng, PAINT),
        has_skirt=bool(rng.random() < 0.22) and not is_rider,
        has_coat=bool(rng.random() < 0.35),
        has_bag=bool(rng.random() < 0.4),
    )


def _hedge_row(plot: _Plot) -> list[Thing]:
    things: list[Thing] = []
    if plot.side.layout == "detached":
        for _ in range(int(plot.rng.integers(1, 4))):
            out = plot.side.road_edge + plot.side.pavement_width + 1.3
            things.append(_tree(plot, out, plot.along(), GARDEN, "bush", plot.rng.uniform(0.6, 1.2)))
    return things


def build_stretch(street: Street, weather: Weather, seeds: tuple[int, int], index: int) -> Stretch:
    """Builds the `index`-th stretch (z from `index` * `STRETCH_M`) of the sequence with (seed, sequence) = `seeds`."""
    things: list[Thing] = []
    junctions: list[Junction] = []
    start = index * STRETCH_M
    crossings: tuple[float, ...] = ()
    for number, side in enumerate(street.sides):
        rng = np.random.default_rng([*seeds, 100 + index, number])
        open_from = start
        if side.layout != "park" and index % 3 == 2 * number % 3 and rng.random() < 0.5:
            open_from = start + 7.5
            junctions.append(Junction(side.sign, start + 0.5, start + 7.0))
        plot = _Plot(rng, street, side, weather, start, open_from)
        things += _buildings(plot)
        things += _fences(plot)
        things += _hedge_row(plot)
        things += _furniture(plot, index)
        things += _parked(plot)
        if number == 0 and rng.random() < 0.22:
            crossings = (start + 12.0,)
    return Stretch(tuple(things), Ground(tuple(junctions), crossings))
