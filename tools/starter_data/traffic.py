"""Moving objects: people on the pavements, people crossing, cyclists and cars, each a function of the frame index.

There is no simulation step by step, so any frame can be drawn without the earlier ones.
"""

from __future__ import annotations

from math import atan, floor, pi, sin

import numpy as np

from starter_data.cars import BODY_KINDS, Car
from starter_data.colour import PAINT, VIVID, pick
from starter_data.layout import PAVEMENT_THINGS, STRETCH_M, TRAFFIC, Thing, draw_outfit
from starter_data.people import Cyclist, Pedestrian
from starter_data.street import Street
from starter_data.weather import Weather

# Metres that the camera drives in a second; with the street's step per frame it fixes the frame's duration.
_CAMERA_SPEED = 7.0


def _seconds(street: Street, frame_index: float) -> float:
    return frame_index * street.step_m / _CAMERA_SPEED


def _walkers(street: Street, seeds: tuple[int, int], index: int, seconds: float) -> list[Thing]:
    """Pedestrians of one stretch: walking along, standing in groups, or crossing ahead of the camera."""
    rng = np.random.default_rng([*seeds, 100 + index, 7])
    things: list[Thing] = []
    for _ in range(int(rng.integers(3, 6))):
        side = street.sides[int(rng.integers(2))]
        base = index * STRETCH_M + rng.uniform(0, STRETCH_M)
        # They are near `base` when the camera is about to pass it.
        since = seconds - (base - 14.0) / _CAMERA_SPEED
        speed = float(rng.choice([-1.3, -1.0, 1.0, 1.3]))
        stands = rng.random() < 0.25
        out = side.road_edge + rng.uniform(0.8, max(0.9, side.pavement_width - 0.4))
        company = int(rng.choice([1, 1, 2, 3], p=(0.4, 0.2, 0.3, 0.1)))
        turn = float(rng.uniform(0, 2 * pi))
        for member in range(company):
            along = base + (0.0 if stands else speed * since) + 0.25 * member
            across = side.sign * (out + 0.62 * member - 0.3 * (company - 1))
            yaw = turn + 2.1 * member if stands else (0.0 if speed > 0 else pi)
            stride = None if stands else 2 * pi * (along / 1.45) + member
            stature, outfit = rng.uniform(1.58, 1.9), draw_outfit(rng)
            things.append(Pedestrian(street.spot(across, along), yaw, stride, stature, outfit, PAVEMENT_THINGS))
    if rng.random() < 0.65:
        things += _crosser(street, rng, index, seconds)
    return things


def _crosser(street: Street, rng: np.random.Generator, index: int, seconds: float) -> list[Thing]:
    along = index * STRETCH_M + 12.0 + rng.uniform(-1.0, 1.0)
    since = seconds - (along - rng.uniform(9.0, 17.0)) / _CAMERA_SPEED
    direction = 1.0 if rng.random() < 0.5 else -1.0
    stature, rides = rng.uniform(1.6, 1.9), bool(rng.random() < 0.5)
    outfit = draw_outfit(rng, rides)
    if rides:
        across = direction * 3.6 * since
        if abs(across) > 7.5:
            return []
        foot, frame = street.spot(across, along), pick(rng, PAINT)
        return [Cyclist(foot, direction * pi / 2, 5.0 * since, stature, outfit, frame, TRAFFIC)]
    across = direction * 1.5 * since
    if abs(across) > 7.0:
        return []
    stride = 2 * pi * across / 1.45
    return [Pedestrian(street.spot(across, along), direction * pi / 2, stride, stature, outfit, TRAFFIC)]


def _stream(rng: np.random.Generator, frame_index: int, rate_m: float, span: tuple[float, float]) -> tuple[float, int]:
    """Distance ahead of something that nears (rate < 0) or leaves the camera by `rate_m` a frame, and which one it is.

    Ahead distances run round within `span`; each round brings a new traveller.
    """
    low, high = span
    position = rng.uniform(0, high - low) + rate_m * frame_index
    lap = floor(position / (high - low))
    return low + position - lap * (high - low), lap


def _cyclists(street: Street, seeds: tuple[int, int], camera_z: float, frame_index: int) -> list[Thing]:
    things: list[Thing] = []
    for number in range(3):
        rng = np.random.default_rng([*seeds, 50, number])
        own_side = number != 1
        sign = np.sign(street.lane) * (1.0 if own_side else -1.0)
        side = street.right if sign > 0 else street.left
        rate = float(rng.uniform(-0.45, -0.12)) if own_side else -1.6
        ahead, lap = _stream(rng, frame_index, rate, (5.5, 26.0) if own_side else (0.0, 34.0))
        rider = np.random.default_rng([*seeds, 51, number, lap + 100_000])
        along = camera_z + ahead
        edge = side.road_edge - (2.3 if side.has_parking else 0.0)
        across = sign * (edge - rider.uniform(0.35, 0.65))
        yaw = atan(street.slope(along)) + (0.0 if own_side else pi)
        frame = pick(rider, (*PAINT, *VIVID))
        stature = rider.uniform(1.62, 1.88)
        spot = street.spot(float(across), along)
        things.append(Cyclist(spot, yaw, 0.9 * frame_index + number, stature, draw_outfit(rider, True), frame, TRAFFIC))
    return things


def _cars(street: Street, weather: Weather, seeds: tuple[int, int], camera_z: float, frame_index: int) -> list[Thing]:
    things: list[Thing] = []
    lights = weather.lamps_on > 0.1
    rng = np.random.default_rng([*seeds, 60])
    ahead = rng.uniform(14.0, 27.0) + 3.5 * sin(0.11 * frame_index + rng.uniform(0, 6))
    if rng.random() < 0.8:
        along = camera_z + ahead
        # No truck here: it would stay in front and hide the street for the whole drive.
        body = BODY_KINDS[int(rng.integers(len(BODY_KINDS) - 1))]
        yaw = atan(street.slope(along))
        things.append(Car(street.spot(street.lane, along), yaw, body, pick(rng, PAINT), lights, TRAFFIC))
    for number in range(2):
        rng = np.random.default_rng([*seeds, 61, number])
        ahead, lap = _stream(rng, frame_index + 40 * number, -2.1, (-10.0, 75.0))
        driver = np.random.default_rng([*seeds, 62, number, lap + 100_000])
        along = camera_z + ahead
        body = BODY_KINDS[int(driver.integers(len(BODY_KINDS)))]
        yaw = atan(street.slope(along)) + pi
        spot = street.spot(-street.lane * 1.05, along)
        things.append(Car(spot, yaw, body, pick(driver, PAINT), lights, TRAFFIC))
    return things


def moving_things(
    street: Street, weather: Weather, seeds: tuple[int, int], camera_z: float, frame_index: int
) -> list[Thing]:
    """Everything that moves within view of the camera at `camera_z` in frame `frame_index`."""
    seconds = _seconds(street, frame_index)
    first = floor(camera_z / STRETCH_M)
    things: list[Thing] = []
    for index in range(first - 1, first + 4):
        things += _walkers(street, seeds, index, seconds)
    things += _cyclists(street, seeds, camera_z, frame_index)
    things += _cars(street, weather, seeds, camera_z, frame_index)
    return things
