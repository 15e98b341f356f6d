"""The plan of one sequence's street: its curve, cross-section and materials, and its railings and parked cars."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from starter_data.colour import EARTH, LEAF, PAINT, PASTEL, RGB, STONE, Floats, pick

LAYOUTS = ("terrace", "commercial", "detached", "terrace", "park", "detached", "commercial")

# Asphalt and slabs come from the same greys, with other odds: in some streets the slabs are the darker ones.
_ASPHALT: tuple[RGB, ...] = (*STONE, STONE[0], STONE[3], STONE[7], EARTH[2], EARTH[5])
_SLABS: tuple[RGB, ...] = (*STONE, STONE[1], STONE[2], STONE[6], *EARTH[2:5], *PASTEL[:2])


@dataclass(frozen=True)
class Side:
    """One side of the street. Metres; colours sRGB 0..255.

    Attributes:
        sign: -1 left, +1 right.
        layout: one of `LAYOUTS`.
        road_edge: distance of the kerb from the middle of the road.
        pavement_width: kerb to the back of the pavement.
        setback: back of the pavement to the building fronts.
        pavement_colour: of the slabs.
        has_railing: guard rails along the kerb here and there.
        has_parking: parked cars along the kerb.
    """

    sign: int
    layout: str
    road_edge: float
    pavement_width: float
    setback: float
    pavement_colour: RGB
    has_railing: bool
    has_parking: bool

    @property
    def building_line(self) -> float:
        """Distance of the building fronts from the middle of the road."""
        return self.road_edge + self.pavement_width + self.setback


@dataclass(frozen=True)
class Street:
    """The whole street. Metres; colours sRGB 0..255; `lane` is the camera's offset from the middle of the road."""

    bend_m: float
    bend_length_m: float
    bend_phase: float
    lane: float
    left: Side
    right: Side
    road_colour: RGB
    kerb_colour: RGB
    slab_m: float
    marking_kind: int
    marking_colour: RGB
    cycle_lane_colour: RGB | None
    wall_colours: tuple[RGB, ...]
    leaf_colours: tuple[RGB, ...]
    pole_colour: RGB
    pole_radius_m: float
    step_m: float

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right

    def middle(self, along_m: float) -> float:
        """World x of the middle of the road at z = `along_m`."""
        return self.bend_m * sin(along_m * 2 * pi / self.bend_length_m + self.bend_phase)

    def slope(self, along_m: float) -> float:
        """dx/dz of the middle of the road at z = `along_m`."""
        turn = 2 * pi / self.bend_length_m
        return self.bend_m * turn * cos(along_m * turn + self.bend_phase)

    def spot(self, across_m: float, along_m: float, up_m: float = 0.0) -> Floats:
        """World point (3,) float32 at `across_m` right of the middle of the road."""
        return np.array([self.middle(along_m) + across_m, up_m, along_m], dtype=np.float32)


def _draw_side(rng: np.random.Generator, sign: int, layout: str) -> Side:
    parking = bool(rng.random() < (0.15 if layout == "park" else 0.32))
    setback = {"terrace": 0.0, "commercial": 0.0, "detached": 3.5, "park": 9.0}[layout]
    if layout == "terrace" and rng.random() < 0.5:
        setback = 1.6
    return Side(
        sign=sign,
        layout=layout,
        road_edge=float(rng.uniform(2.6, 3.0) + (2.1 if parking else 0.0)),
        pavement_width=float(rng.uniform(3.2, 5.2)),
        setback=setback,
        pavement_colour=pick(rng, _SLABS, 0.15),
        has_railing=bool(rng.random() < 0.35),
        has_parking=parking,
    )


def draw_street(rng: np.random.Generator) -> Street:
    """Draws the street of one sequence."""
    first, second = rng.integers(len(LAYOUTS), size=2)
    layouts = [LAYOUTS[first], LAYOUTS[second]]
    if layouts == ["park", "park"]:
        layouts[int(rng.integers(2))] = "terrace"
    palettes = [EARTH + PASTEL, STONE + EARTH, PASTEL + STONE, STONE + PASTEL + EARTH]
    walls = palettes[int(rng.integers(len(palettes)))]
    lane_side = -1.0 if rng.random() < 0.5 else 1.0
    cycle_lanes: list[RGB | None] = [None, None, (128, 62, 50), (66, 92, 66)]
    markings: tuple[RGB, ...] = ((214, 214, 208), (226, 224, 216), (206, 176, 82))
    return Street(
        bend_m=float(rng.uniform(-7.0, 7.0)),
        bend_length_m=float(rng.uniform(170.0, 300.0)),
        bend_phase=float(rng.uniform(0.0, 2 * pi)),
        lane=lane_side * float(rng.uniform(1.2, 1.6)),
        left=_draw_side(rng, -1, layouts[0]),
        right=_draw_side(rng, 1, layouts[1]),
        road_colour=pick(rng, _ASPHALT, 0.15),
        kerb_colour=pick(rng, STONE, 0.15),
        slab_m=float(rng.choice([0.5, 0.7, 1.0])),
        marking_kind=int(rng.integers(3)),
        marking_colour=pick(rng, markings, 0.06),
        cycle_lane_colour=cycle_lanes[int(rng.integers(4))],
        wall_colours=tuple(pick(rng, walls, 0.16) for _ in range(6)),
        leaf_colours=tuple(pick(rng, LEAF, 0.15) for _ in range(3)),
        pole_colour=pick(rng, (*STONE, *PAINT[:6], *EARTH[:1], *EARTH[5:])),
        pole_radius_m=float(rng.uniform(0.1, 0.155)),
        step_m=float(rng.uniform(0.8, 1.3)),
    )
