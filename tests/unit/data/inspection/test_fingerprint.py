"""Fingerprints and similarity: what copies keep, and what different images do not share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segpipe.data.inspection.fingerprint import (
    COSINES,
    GRID_PX,
    MIRROR,
    NUM_COEFFICIENTS,
    fingerprint,
    make_thumbnail,
    measure_similarity,
    read_fingerprints,
)


def _read(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / f"images/{name}.jpg").convert("RGB"))


@pytest.fixture(scope="module")
def image(starter_folder: Path) -> np.ndarray:
    return _read(starter_folder, "street00_000")


def _compress(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR))


COPIES = {
    "compressed": _compress,
    "smaller": lambda image: cv2.resize(image, None, fx=0.9, fy=0.9),
    "squashed": lambda image: cv2.resize(image, (160, 160), interpolation=cv2.INTER_AREA),
    "brighter": lambda image: cv2.add(image, np.full(image.shape, 10, np.uint8)),
    "flatter": lambda image: (60 + image * 0.6).astype(np.uint8),
    "cropped": lambda image: np.ascontiguousarray(image[4:-6, 10:-4]),
}


def test_the_cosines_are_those_of_a_cosine_transform() -> None:
    grid = np.random.default_rng(0).random((GRID_PX, GRID_PX))
    scale = np.where(np.arange(8) == 0, (1 / GRID_PX) ** 0.5, (2 / GRID_PX) ** 0.5) / 2**12
    ours = scale[:, None] * (COSINES @ grid @ COSINES.T) * scale
    np.testing.assert_allclose(ours, cv2.dct(grid)[:8, :8], atol=2e-3)


def test_a_fingerprint_is_short_text_that_can_be_read(image: np.ndarray) -> None:
    text = fingerprint(image)
    assert len(text) == 2 * (NUM_COEFFICIENTS + 1)
    vectors, contrasts = read_fingerprints([text, fingerprint(np.full((50, 60, 3), 7, np.uint8))])
    assert vectors.shape == (2, NUM_COEFFICIENTS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0])
    grey = cv2.cvtColor(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    assert contrasts.tolist() == [pytest.approx(grey.std(), abs=1), 0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (7, 3), (127, 129), (2000, 130)])
def test_any_shape_has_a_fingerprint(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert len(fingerprint(image)) == 128
    assert make_thumbnail(image).shape == (64, 64)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_agrees(image: np.ndarray, name: str) -> None:
    copy = COPIES[name](image)
    vectors, _ = read_fingerprints([fingerprint(image), fingerprint(copy)])
    assert vectors[0] @ vectors[1] > 0.9
    assert measure_similarity(make_thumbnail(image), make_thumbnail(copy)) > 0.95


def test_a_mirrored_copy_agrees_mirrored(image: np.ndarray) -> None:
    vectors, _ = read_fingerprints([fingerprint(image), fingerprint(np.ascontiguousarray(image[:, ::-1]))])
    assert vectors[0] @ vectors[1] < 0.9
    assert vectors[0] @ (vectors[1] * MIRROR) == pytest.approx(1, abs=1e-3)


def test_another_street_does_not_agree(image: np.ndarray, starter_folder: Path) -> None:
    other = _read(starter_folder, "street10_000")
    vectors, _ = read_fingerprints([fingerprint(image), fingerprint(other)])
    assert vectors[0] @ vectors[1] < 0.8
    assert measure_similarity(make_thumbnail(image), make_thumbnail(other)) < 0.5


def test_a_crop_is_found_only_by_the_alignment(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = make_thumbnail(image), make_thumbnail(np.ascontiguousarray(image[16:, 20:]))
    assert measure_similarity(whole, part) > 0.95
    monkeypatch.setattr("segpipe.data.inspection.fingerprint._align", lambda fixed, moving: None)
    assert measure_similarity(whole, part) < 0.75


def test_two_skies_are_not_alike() -> None:
    """Both brighten downwards, and nothing else."""
    fall = np.linspace(80, 200, 360)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 3, (2, 360, 480, 3))
    skies = [
        np.clip(fall**power * 200 ** (1 - power) + n, 0, 255).astype(np.uint8)
        for power, n in zip((1, 1.2), noise, strict=True)
    ]
    vectors, _ = read_fingerprints([fingerprint(sky) for sky in skies])
    assert vectors[0] @ vectors[1] > 0.95, "the fingerprints do agree"
    assert measure_similarity(*map(make_thumbnail, skies)) < 0.5


def test_an_image_of_one_colour_is_not_like_any_other() -> None:
    blank = make_thumbnail(np.full((100, 100, 3), 90, np.uint8))
    assert measure_similarity(blank, blank) == 0
