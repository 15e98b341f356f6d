"""Turns linear light into the picture that a dashboard camera would store."""

from __future__ import annotations

from dataclasses import dataclass
from math import sin

import cv2
import numpy as np
import numpy.typing as npt

from starter_data.colour import Floats


@dataclass(frozen=True)
class Sensor:
    """One sequence's camera.

    Attributes:
        gain_RGB: exposure times white balance, (3,) float32.
        drift: how far the gain wanders, in e-folds; `drift_phase` is where it starts.
        saturation, contrast, gamma: the picture style; 1 leaves the first two alone.
        vignette: loss of light in the corners, 0..1.
        blur_px: standard deviation of the lens blur.
        shot_noise, read_noise: variance per unit of light, and standard deviation in the dark.
        bonnet_share: height of the own car's bonnet as a share of the frame's, labelled void; `bonnet_RGB` its paint.
    """

    gain_RGB: Floats
    drift: float
    drift_phase: float
    saturation: float
    contrast: float
    gamma: float
    vignette: float
    blur_px: float
    shot_noise: float
    read_noise: float
    bonnet_share: float
    bonnet_RGB: Floats


def draw_sensor(rng: np.random.Generator, brightness: float) -> Sensor:
    """Draws a camera that exposes for a scene of the given mean `brightness` (linear light)."""
    warmth, tint = rng.normal(0, 0.12), rng.normal(0, 0.03)
    balance = np.exp(np.array([warmth, tint, -warmth]))
    exposure = np.exp(np.clip(rng.normal(0, 0.24), -0.45, 0.33)) * 0.62 / brightness
    return Sensor(
        gain_RGB=(balance * exposure).astype(np.float32),
        drift=float(rng.uniform(0.03, 0.1)),
        drift_phase=float(rng.uniform(0, 6)),
        saturation=float(rng.uniform(0.6, 1.3)),
        contrast=float(rng.uniform(1.05, 1.35)),
        gamma=float(rng.uniform(0.4, 0.52)),
        vignette=float(rng.uniform(0.1, 0.35)),
        blur_px=float(rng.uniform(0.25, 0.6)),
        shot_noise=float(rng.uniform(0.0002, 0.0008)),
        read_noise=float(rng.uniform(0.0015, 0.004)),
        bonnet_share=float(rng.uniform(0.025, 0.045)) if rng.random() < 0.5 else 0.0,
        bonnet_RGB=rng.uniform(0.01, 0.2, size=3).astype(np.float32) * np.float32(rng.uniform(0.3, 1.5)),
    )


def expose(
    sensor: Sensor, light: Floats, height: int, width: int, frame_index: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Turns the supersampled canvas into the frame.

    Args:
        sensor: the camera.
        light: 2H x 2W x 3 float32 linear light.
        height: of the frame, pixels.
        width: of the frame, pixels.
        frame_index: drives the slow drift of exposure and white balance.
        rng: this frame's noise.

    Returns:
        height x width x 3 uint8 RGB.
    """
    image = cv2.resize(light, (width, height), interpolation=cv2.INTER_AREA)
    blur = sensor.blur_px * max(1.0, height / 400.0)
    image = cv2.GaussianBlur(image, (0, 0), sigmaX=1.15 * blur, sigmaY=0.9 * blur)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    fall_off = 1.0 - sensor.vignette * (x * x + y * y) * 0.6
    sway = sensor.drift * sin(0.13 * frame_index + sensor.drift_phase)
    gain = sensor.gain_RGB * np.exp(np.array([1.2, 1.0, 0.8]) * sway).astype(np.float32)
    image = np.maximum(image * fall_off[..., None] * gain, 0.0)
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    image += noise * np.sqrt(sensor.shot_noise * image + sensor.read_noise**2)
    image = 1.0 - np.exp(-1.35 * np.maximum(image, 0.0))
    image = np.asarray(cv2.pow(image.astype(np.float32), sensor.gamma), dtype=np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + sensor.saturation * (image - grey)
    image = 0.48 + sensor.contrast * (image - 0.48)
    frame: npt.NDArray[np.uint8] = np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return frame
