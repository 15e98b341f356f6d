"""A model whose prediction is known, and a service around it in this process."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.documents import DECIDES_NOTHING, ImageMapping
from segpipe.export.exported import Prediction
from segpipe.serving.backends import Served
from segpipe.serving.following import Follower, Watch
from segpipe.serving.limits import Limits
from segpipe.serving.metrics import Metrics
from segpipe.serving.web.access import Access
from segpipe.serving.web.app import make_app
from segpipe.serving.web.service import Service

T = TypeVar("T")
ADDRESS = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Reddest:
    """Says class 0, 1 or 2 where red, green or blue is the strongest; is as sure as that is bright.

    Attributes:
        classes: three.
        seconds: that a batch takes.
        sizes: gets the number of images of each batch.
    """

    classes: ClassTable
    seconds: float = 0.0
    sizes: list[int] | None = None
    weights_sha256: str = "0" * 64
    image_mapping: ImageMapping = DECIDES_NOTHING

    def predict(self, images_NHWC: np.ndarray) -> Prediction:
        time.sleep(self.seconds)
        if self.sizes is not None:
            self.sizes.append(len(images_NHWC))
        masks_NHW = images_NHWC.argmax(axis=3).astype(np.uint8)
        return Prediction(masks_NHW, images_NHWC.max(axis=3).astype(np.float32) / 255)


def png(pixels: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def colors_of(strongest: np.ndarray, brightness: int = 255) -> np.ndarray:
    """A picture that `Reddest` predicts as this mask."""
    return (np.eye(3)[strongest] * brightness).astype(np.uint8)


@pytest.fixture
def strongest() -> np.ndarray:
    """A mask of blocks of 8 px: 40 x 56 px."""
    return np.random.default_rng(0).integers(0, 3, (5, 7)).repeat(8, 0).repeat(8, 1)


@pytest.fixture
def model(classes: ClassTable) -> Reddest:
    return Reddest(classes)


@pytest.fixture
def ask(model: Reddest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., T]:
    """Runs a conversation with a service: `ask(lambda client: client.get("/model"))`."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(pictures))

    def run(
        talk: Callable[[httpx.AsyncClient], Awaitable[T]],
        limits: Limits | None = None,
        access: Access | None = None,
        served: Served | None = None,
        challenger: Follower | None = None,
        champion: Follower | None = None,
    ) -> T:
        async def inside() -> T:
            follower = champion or Follower(served or Served(model, "onnx", "boxes", "3"), tmp_path)
            rules = access or Access(is_loopback=True)
            service = Service(Watch(follower, challenger), rules, limits or Limits(), Metrics())
            service.start()
            transport = httpx.ASGITransport(make_app(service))
            try:
                async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, timeout=20) as client:
                    return await talk(client)
            finally:
                service.stop()
                assert not list(pictures.iterdir()), "a picture was left"

        return asyncio.run(inside())

    return run
