"""Tileable noise fields, the raw material of asphalt, plaster, leaves and clouds."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from starter_data.colour import Floats

TILE = 256


@lru_cache(maxsize=64)
def noise_tile(seed: int, slope: float) -> Floats:
    """Seamless noise with spectrum 1/f**slope.

    Args:
        seed: which field.
        slope: 0 is white speckle, 1 is grainy, 1.8 is cloud-like.

    Returns:
        (256, 256) float32, mean 0, standard deviation 1, read-only.
    """
    rng = np.random.default_rng([seed, 77])
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = spectrum / radius**slope
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(TILE, TILE))
    tile: Floats = (field / field.std()).astype(np.float32)
    tile.setflags(write=False)
    return tile


def sample_noise(tile: Floats, across: Floats, along: Floats) -> Floats:
    """Looks `tile` up at tile coordinates (both H x W float32, any range, wrapping); H x W float32."""
    # remap's fixed-point coordinates are only good to a few thousand, so the wrap is done here.
    across = across - TILE * np.floor(across * (1.0 / TILE))
    along = along - TILE * np.floor(along * (1.0 / TILE))
    return np.asarray(cv2.remap(tile, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), dtype=np.float32)


def noise_patch(seed: int, slope: float, height: int, width: int, scale: float) -> Floats:
    """A height x width float32 cut-out of a noise field, `scale` tile cells to the pixel."""
    grid: Floats = np.mgrid[0:height, 0:width].astype(np.float32) * np.float32(scale)
    along, across = grid[0], grid[1]
    return sample_noise(noise_tile(seed % 16, slope), across + (seed * 37) % 251, along + (seed * 53) % 241)
