"""Buildings: boxes along the street with textured faces, and pitched roofs with chimneys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starter_data.classes import BUILDING
from starter_data.colour import RGB, Floats, linear
from starter_data.facades import Facade, facade_pyramid
from starter_data.raster import Canvas, fill_polygon, outward_normal, paste_wall
from starter_data.weather import Weather, shade


@dataclass(frozen=True)
class Building:
    """A house.

    Attributes:
        front_near, front_far: ground corners (3,) of the street front, world metres.
        back: unit vector (3,) away from the street.
        gable: the blind wall that faces along the street.
        roof_m: ridge above the eaves; 0 is a flat roof.
        depth_m: street front to rear wall.
    """

    front_near: Floats
    front_far: Floats
    back: Floats
    depth_m: float
    front: Facade
    gable: Facade
    roof_m: float
    roof_colour: RGB
    layer: int = 0

    @property
    def along_m(self) -> float:
        """World z of the middle."""
        return float(self.front_near[2] + self.front_far[2]) / 2


def _texels_per_m(canvas: Canvas) -> float:
    # One resolution per canvas size, so that a facade's texture is made once.
    return float(np.clip(round(canvas.camera.focal_px / 22.0), 10, 40))


def draw_building(canvas: Canvas, building: Building) -> None:
    """Draws the roof, then the gable towards the camera, then the front."""
    texels = _texels_per_m(canvas)
    rear_near = building.front_near + building.back * np.float32(building.depth_m)
    rear_far = building.front_far + building.back * np.float32(building.depth_m)
    inside = ((building.front_near + rear_far) / 2).astype(np.float32)
    top = building.front.height_m
    eaves = [point + np.array([0, top, 0], dtype=np.float32) for point in (building.front_near, building.front_far)]
    if building.roof_m > 0:
        lift = np.array([0, top + building.roof_m, 0], dtype=np.float32)
        mids = np.stack([building.front_near + rear_near, building.front_far + rear_far]) / 2
        ridge = (mids + lift).astype(np.float32)
        slope = np.stack([eaves[0], eaves[1], ridge[1], ridge[0]]).astype(np.float32)
        tiles = linear(building.roof_colour)
        gable = np.stack([eaves[0], ridge[0], rear_near + np.array([0, top, 0], dtype=np.float32)]).astype(np.float32)
        along = np.array([0, 0, -1], dtype=np.float32)
        fill_polygon(canvas, gable, linear(building.gable.wall) * shade(canvas.weather, along), BUILDING)
        light = shade(canvas.weather, outward_normal(slope, inside))
        _draw_tiles(canvas, slope, tiles * light)
        _draw_chimney(canvas, building, ridge[0])
    if building.front_near[2] > canvas.camera.z:
        feet = np.stack([building.front_near, rear_near]).astype(np.float32)
        normal = outward_normal(np.stack([feet[0], feet[1], feet[0] + np.array([0, 1, 0], np.float32)]), inside)
        pyramid = facade_pyramid(building.gable, texels)
        paste_wall(canvas, pyramid, feet, 0.0, top, shade(canvas.weather, normal), BUILDING)
    feet = np.stack([building.front_near, building.front_far]).astype(np.float32)
    normal = -building.back
    paste_wall(canvas, facade_pyramid(building.front, texels), feet, 0.0, top, shade(canvas.weather, normal), BUILDING)


def _draw_tiles(canvas: Canvas, slope: Floats, colour: Floats) -> None:
    courses = 9
    for course in range(courses):
        low, high = course / courses, (course + 1) / courses
        left, right = slope[3] - slope[0], slope[2] - slope[1]
        strip = np.stack(
            [slope[0] + left * low, slope[1] + right * low, slope[1] + right * high, slope[0] + left * high]
        )
        fill_polygon(canvas, strip.astype(np.float32), colour * np.float32(1.0 - 0.16 * (course % 2)), BUILDING)


def _draw_chimney(canvas: Canvas, building: Building, ridge: Floats) -> None:
    foot = ridge + (building.front_far - building.front_near) * np.float32(0.15)
    across, up = building.back * np.float32(0.45), np.array([0, 1.1, 0], dtype=np.float32)
    face = np.stack([foot - across - up / 2, foot + across - up / 2, foot + across + up, foot - across + up])
    normal = np.array([0, 0, -1], dtype=np.float32)
    fill_polygon(
        canvas, face.astype(np.float32), linear(building.gable.wall) * 0.8 * shade(canvas.weather, normal), BUILDING
    )


def building_shadow(building: Building, weather: Weather) -> list[Floats]:
    """Point sets (N, 3) whose ground projections along the sun's rays make the shadow."""
    top = np.array([0, building.front.height_m + 0.6 * building.roof_m, 0], dtype=np.float32)
    rear = building.back * np.float32(building.depth_m)
    feet = [building.front_near, building.front_far, building.front_near + rear, building.front_far + rear]
    return [np.stack(feet + [foot + top for foot in feet]).astype(np.float32)]
