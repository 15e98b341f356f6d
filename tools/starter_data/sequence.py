"""Draws sequences: one street, one weather, one camera, as many frames as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import atan, floor, sin
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from starter_data.buildings import Building, building_shadow, draw_building
from starter_data.camera import Camera, to_camera
from starter_data.cars import Car, car_footprint, car_shadow, draw_car
from starter_data.classes import PAVEMENT, ROAD, VOID
from starter_data.colour import Floats
from starter_data.fences import Fence, draw_fence, fence_shadow
from starter_data.furniture import (
    Clutter,
    Pole,
    Sign,
    clutter_shadow,
    draw_clutter,
    draw_pole,
    draw_sign,
    pole_shadow,
    sign_shadow,
)
from starter_data.ground import Ground, draw_ground, horizon_row
from starter_data.layout import STRETCH_M, Stretch, Thing, build_stretch
from starter_data.noise import noise_patch
from starter_data.people import Cyclist, Pedestrian, draw_cyclist, draw_pedestrian, person_shadow
from starter_data.raster import Canvas, fill_pixels
from starter_data.sensor import Sensor, draw_sensor, expose
from starter_data.shadows import cast_shadows, darken_ground
from starter_data.sky import draw_sky, draw_skyline
from starter_data.street import Street, draw_street
from starter_data.traffic import moving_things
from starter_data.vegetation import Tree, draw_tree, tree_shadow
from starter_data.weather import WEATHERS, Weather, draw_weather

_SUPERSAMPLING = 2
# Beyond these distances a thing would cover too few pixels to be told apart.
_SIGHT_M: dict[type[Any], float] = {
    Building: 125.0,
    Tree: 75.0,
    Fence: 38.0,
    Car: 48.0,
    Pole: 26.0,
    Sign: 21.0,
    Pedestrian: 21.0,
    Cyclist: 22.0,
    Clutter: 30.0,
}
_DRAW: dict[type[Any], Callable[[Canvas, Any], None]] = {
    Building: draw_building,
    Tree: draw_tree,
    Fence: draw_fence,
    Car: draw_car,
    Pole: draw_pole,
    Sign: draw_sign,
    Pedestrian: draw_pedestrian,
    Cyclist: draw_cyclist,
    Clutter: draw_clutter,
}
_SHADOW: dict[type[Any], Callable[[Any, Weather], list[Floats]]] = {
    Building: building_shadow,
    Tree: tree_shadow,
    Fence: fence_shadow,
    Car: car_shadow,
    Pole: pole_shadow,
    Sign: sign_shadow,
    Pedestrian: person_shadow,
    Cyclist: person_shadow,
    Clutter: clutter_shadow,
}


@dataclass(frozen=True)
class _World:
    # All that is the same in every frame of a sequence.
    seeds: tuple[int, int]
    street: Street
    weather: Weather
    sensor: Sensor
    camera_height_m: float
    pitch: float
    lens: float
    sway_phase: float


def _draw_world(seed: int, sequence: int) -> _World:
    rng = np.random.default_rng([seed, sequence])
    # The kinds of weather go round, from a start that depends on the seed, so a few sequences show them all.
    start = int(np.random.default_rng([seed, 5]).integers(len(WEATHERS)))
    weather = draw_weather(rng, WEATHERS[(start + sequence) % len(WEATHERS)])
    street = draw_street(rng)
    received = weather.ambient_RGB + 0.32 * weather.sun_RGB
    return _World(
        seeds=(seed, sequence),
        street=street,
        weather=weather,
        sensor=draw_sensor(rng, float(received.mean())),
        camera_height_m=float(rng.uniform(1.3, 1.6)),
        pitch=float(rng.uniform(-0.05, 0.01)),
        lens=float(rng.uniform(0.78, 0.95)),
        sway_phase=float(rng.uniform(0, 6)),
    )


def _place_camera(world: _World, frame_index: int, height: int, width: int) -> Camera:
    street, along = world.street, world.street.step_m * frame_index
    sway = 0.12 * sin(0.17 * frame_index + world.sway_phase)
    # Drivers look into a bend, a little ahead of where they are.
    yaw = atan(street.slope(along + 7.0)) + 0.02 * sin(0.23 * frame_index + 2 * world.sway_phase)
    bob = 0.003 * sin(1.1 * frame_index + world.sway_phase)
    return Camera(
        x=street.middle(along) + street.lane + sway,
        y=world.camera_height_m,
        z=along,
        yaw=yaw,
        pitch=world.pitch + bob,
        # Equal fields of view for equal shapes; odd shapes keep the area of the view.
        focal_px=world.lens * float(np.sqrt(height * width * 4 / 3)) * _SUPERSAMPLING,
        height=height * _SUPERSAMPLING,
        width=width * _SUPERSAMPLING,
    )


def _in_sight(camera: Camera, things: list[Thing]) -> list[Thing]:
    kept = []
    for thing in things:
        ahead = thing.along_m - camera.z
        behind = -12.0 if isinstance(thing, Building) else -3.0 if isinstance(thing, Car | Fence) else 0.5
        if behind < ahead < _SIGHT_M[type(thing)]:
            kept.append(thing)
    return sorted(kept, key=lambda thing: (thing.layer, -thing.along_m))


def _wet_sheen(canvas: Canvas) -> None:
    """Lets wet ground mirror what stands above it, more so at a flat angle."""
    camera, wetness = canvas.camera, canvas.weather.wetness
    first = horizon_row(camera)
    rows = np.arange(first, camera.height)
    if wetness <= 0 or rows.size == 0:
        return
    mirrored = canvas.image[np.clip(2 * first - rows, 0, camera.height - 1)]
    mirrored = np.asarray(cv2.blur(mirrored, (5, max(3, camera.height // 18))), dtype=np.float32)
    flatness = np.exp(-(rows - first) / (0.3 * camera.height)).astype(np.float32)[:, None]
    strength = wetness * (0.12 + 0.75 * flatness)
    ground = canvas.mask[first:]
    strength = np.where((ground == ROAD) | (ground == PAVEMENT), strength, 0.0)[..., None].astype(np.float32)
    below = canvas.image[first:]
    below *= 1.0 - 0.35 * (strength > 0)
    below += strength * (mirrored - below)


def _draw_bonnet(canvas: Canvas, sensor: Sensor) -> None:
    height, width = canvas.mask.shape
    if sensor.bonnet_share == 0:
        return
    across = np.linspace(-0.02, 1.02, 15)
    arch = 1.0 - sensor.bonnet_share * (1.25 - 2.2 * np.abs(across - 0.5) ** 2.2)
    for drop, share in ((0.0, 1.0), (0.012, 0.7), (0.03, 0.5)):
        top = np.stack([across * width, (arch + drop) * height], axis=1)
        foot = [[1.02 * width, 1.1 * height], [-0.02 * width, 1.1 * height]]
        outline = np.concatenate([top, foot]).astype(np.float32)
        colour = (sensor.bonnet_RGB * canvas.weather.ambient_RGB + 0.12 * canvas.weather.zenith_RGB) * np.float32(share)
        fill_pixels(canvas, outline, colour, VOID, 0.0)


def _leave_gaps(mask: npt.NDArray[np.uint8], seed: int) -> None:
    """Leaves stretches of outline unlabelled, as hand-drawn masks do."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    mask[edge & (noise_patch(seed, 1.2, mask.shape[0], mask.shape[1], 2.0) > 1.25)] = VOID


def _render(world: _World, stretches: list[Stretch], frame_index: int, height: int, width: int) -> Canvas:
    camera = _place_camera(world, frame_index, height, width)
    image = np.zeros((camera.height, camera.width, 3), dtype=np.float32)
    canvas = Canvas(camera, world.weather, image, np.zeros(image.shape[:2], dtype=np.uint8))
    everything: list[Thing] = [thing for stretch in stretches for thing in stretch.things]
    everything += moving_things(world.street, world.weather, world.seeds, camera.z, frame_index)
    things = _in_sight(camera, everything)
    lit_HW = None
    if float(world.weather.sun_RGB.max()) > 0.1:
        near = [thing for thing in everything if -20 < thing.along_m - camera.z < 60]
        outlines = [points for thing in near for points in _SHADOW[type(thing)](thing, world.weather)]
        lit_HW = cast_shadows(camera, world.weather.sun_direction, outlines)
    ground = Ground(
        tuple(junction for stretch in stretches for junction in stretch.ground.junctions),
        tuple(crossing for stretch in stretches for crossing in stretch.ground.crossings),
    )
    draw_sky(canvas, frame_index)
    draw_ground(canvas, world.street, ground, lit_HW)
    draw_skyline(canvas, world.street, world.seeds[1])
    darken_ground(canvas, [car_footprint(thing, 1.04) for thing in things if isinstance(thing, Car)], 0.72)
    for thing in things:
        if _is_ahead(camera, thing):
            _DRAW[type(thing)](canvas, thing)
    _wet_sheen(canvas)
    _draw_bonnet(canvas, world.sensor)
    return canvas


def _is_ahead(camera: Camera, thing: Thing) -> bool:
    # A car that straddles the camera's plane would be cut open; its neighbours only pass by the side.
    if isinstance(thing, Car):
        return float(to_camera(camera, car_footprint(thing))[:, 2].min()) > 0.45
    return True


def render_sequence(
    seed: int, sequence: int, num_frames: int, height: int, width: int, every: int = 1
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Renders one drive down one street.

    The same arguments give the same bits, and frame i does not depend on `num_frames`.

    Args:
        seed: which world; >= 0.
        sequence: which street in it; >= 0.
        num_frames: how many frames to keep.
        height: of the frames, pixels.
        width: of the frames, pixels.
        every: keep each so many-th frame of the drive; about a metre of street lies between a frame and the next.

    Yields:
        image, height x width x 3 uint8 RGB, and mask, height x width uint8: indices into `CLASS_NAMES`; 255 is void.
    """
    world = _draw_world(seed, sequence)
    built: dict[int, Stretch] = {}
    for frame_index in range(0, num_frames * every, every):
        here = floor(world.street.step_m * frame_index / STRETCH_M)
        wanted = range(here - 1, here + 8)
        built = {
            index: built.get(index) or build_stretch(world.street, world.weather, world.seeds, index)
            for index in wanted
        }
        canvas = _render(world, list(built.values()), frame_index, height, width)
        rng = np.random.default_rng([seed, sequence, 9, frame_index])
        image = expose(world.sensor, canvas.image, height, width, frame_index, rng)
        mask = np.ascontiguousarray(canvas.mask[::_SUPERSAMPLING, ::_SUPERSAMPLING])
        _leave_gaps(mask, seed + 31 * sequence + frame_index)
        yield image, mask
