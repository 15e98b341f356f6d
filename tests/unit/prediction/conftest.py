"""A network whose prediction is known, and pictures of pure colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segpipe.classes import ClassTable
from segpipe.inference.network import Network


class ReddestClass(nn.Module):
    """Says class 0, 1 or 2 where red, green or blue is the strongest."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW


@pytest.fixture
def network(classes: ClassTable) -> Network:
    """Predicts the channel of the highest value."""
    return Network(ReddestClass().eval(), classes, "0" * 64)


def _write_picture(path: Path, height: int = 4, width: int = 6) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    strongest = np.random.default_rng(height).integers(0, 3, (height, width))
    pixels = (np.eye(3)[strongest] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def write_picture() -> Callable[..., np.ndarray]:
    """Writes a picture and gives its pixels: `write_picture(path, height, width)`."""
    return _write_picture


def _write_video(path: Path, num_frames: int) -> Path:
    """Writes frames of 32 x 48 px; frame i is grey of value 20 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 32))
    assert writer.isOpened()
    for number in range(num_frames):
        writer.write(np.full((32, 48, 3), 20 * number, np.uint8))
    writer.release()
    return path


@pytest.fixture
def write_video() -> Callable[[Path, int], Path]:
    """Writes a video: `write_video(path, num_frames)`; frame i is grey of value 20 * i."""
    return _write_video
