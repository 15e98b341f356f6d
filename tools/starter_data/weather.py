"""Light, air and sky of one sequence."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from starter_data.colour import Floats

WEATHERS = ("clear", "overcast", "dusk", "wet", "fog", "clear", "overcast")


@dataclass(frozen=True)
class Weather:
    """Sun, sky, air and wetness. Colours are linear light, (3,) float32; directions are unit vectors (3,) float32.

    Attributes:
        sun_direction: towards the sun.
        sun_RGB: what a face turned to the sun receives.
        ambient_RGB: what every face receives.
        haze_RGB: colour of the air; `haze_per_m`: its extinction per metre.
        zenith_RGB, horizon_RGB, cloud_RGB: the sky; `cloud_cover` 0..1; `cloud_seed` picks the clouds.
        wetness: 0 dry .. 1 mirror.
        lamps_on: 0..1, the share of lit windows and lights.
    """

    name: str
    sun_direction: Floats
    sun_RGB: Floats
    ambient_RGB: Floats
    haze_RGB: Floats
    haze_per_m: float
    zenith_RGB: Floats
    horizon_RGB: Floats
    cloud_RGB: Floats
    cloud_cover: float
    cloud_seed: int
    wetness: float
    lamps_on: float


def _rgb(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], dtype=np.float32)


def draw_weather(rng: np.random.Generator, name: str) -> Weather:
    """Draws the weather of one sequence from its kind (one of `WEATHERS`)."""
    low, high = (0.12, 0.3) if name == "dusk" else (0.35, 1.0)
    elevation, azimuth = rng.uniform(low, high), rng.uniform(0.0, 2.0 * pi)
    # A sun straight ahead at dusk would blind the camera; keep it off the axis of the street.
    azimuth = azimuth if abs(sin(azimuth)) > 0.35 else azimuth + 0.9
    direction = _rgb(cos(elevation) * sin(azimuth), sin(elevation), cos(elevation) * cos(azimuth))
    grey = rng.uniform(0.45, 0.95)
    tint = _rgb(1.0, 1.0, 1.0) + np.float32(0.07) * rng.normal(size=3).astype(np.float32)
    sun, ambient = _rgb(0.05, 0.05, 0.05), _rgb(0.52, 0.54, 0.57) * tint
    zenith, horizon, cloud = grey * _rgb(0.62, 0.66, 0.72), grey * _rgb(0.86, 0.88, 0.9), grey * _rgb(0.5, 0.52, 0.55)
    haze_per_m, cover, wetness, lamps = 0.003, 0.9, 0.0, 0.06
    if name == "clear":
        warm = rng.uniform(0.75, 0.95)
        sun, ambient = _rgb(1.0, 0.97 * warm + 0.04, 0.9 * warm), _rgb(0.33, 0.36, 0.42)
        depth = rng.uniform(0.6, 1.3)
        zenith, horizon = _rgb(0.16, 0.29, 0.6) * depth, _rgb(0.5, 0.62, 0.8) * (0.5 + 0.5 * depth)
        cloud, cover, haze_per_m = _rgb(0.95, 0.94, 0.92), rng.uniform(0.1, 0.75), 0.002
    elif name == "dusk":
        warm = rng.uniform(0.3, 0.75)
        sun, ambient = _rgb(0.5, 0.3, 0.16), _rgb(0.2, 0.19, 0.24)
        zenith, horizon = _rgb(0.16, 0.18, 0.28), _rgb(0.62, 0.42 + 0.1 * (1 - warm), 0.2 + 0.25 * (1 - warm))
        cloud, cover, lamps, haze_per_m = _rgb(0.34, 0.24, 0.24), rng.uniform(0.3, 0.8), 0.4, 0.005
    elif name == "wet":
        wetness, lamps, haze_per_m = rng.uniform(0.45, 0.75), 0.15, 0.008
    elif name == "fog":
        haze_per_m, cloud, zenith = rng.uniform(0.013, 0.024), horizon * 0.97, horizon * 0.95
    haze = 0.85 * horizon + 0.15 * zenith
    return Weather(
        name=name,
        sun_direction=direction,
        sun_RGB=sun.astype(np.float32),
        ambient_RGB=ambient.astype(np.float32),
        haze_RGB=haze.astype(np.float32),
        haze_per_m=float(haze_per_m),
        zenith_RGB=(zenith * tint).astype(np.float32),
        horizon_RGB=(horizon * tint).astype(np.float32),
        cloud_RGB=(cloud * tint).astype(np.float32),
        cloud_cover=float(cover),
        cloud_seed=int(rng.integers(1_000)),
        wetness=float(wetness),
        lamps_on=float(lamps),
    )


def shade(weather: Weather, normal: Floats) -> Floats:
    """Light (3,) float32 that falls on a face with unit `normal` (3,): ambient from above plus Lambert's sun."""
    ambient = weather.ambient_RGB * np.float32(0.72 + 0.28 * float(normal[1]))
    return ambient + weather.sun_RGB * np.float32(max(0.0, float(normal @ weather.sun_direction)))
