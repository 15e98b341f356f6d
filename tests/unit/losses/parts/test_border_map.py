"""U-Net's border map by hand and against flooding and distances pixel by pixel."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.border_map import NEGLIGIBLE, measure_closeness

Pixel = tuple[int, int]


def _flood(mask: np.ndarray, start: Pixel) -> set[Pixel]:
    found, waiting = {start}, [start]
    while waiting:
        y, x = waiting.pop()
        for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
            is_inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
            if is_inside and near not in found and mask[near] == mask[start]:
                found.add(near)
                waiting.append(near)
    return found


def _slow(mask: np.ndarray, object_classes: list[int], sigma: float) -> np.ndarray:
    borders, seen = [], set()
    for start in np.ndindex(*mask.shape):
        if start in seen or mask[start] not in object_classes:
            continue
        pixels = _flood(mask, start)
        seen |= pixels
        sides = [(y, x, near) for y, x in pixels for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))]
        is_in = [0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1] for _, _, near in sides]
        borders.append({(y, x) for (y, x, near), ok in zip(sides, is_in, strict=True) if ok and near not in pixels})
    closeness = np.zeros(mask.shape)
    for pixel in np.ndindex(*mask.shape):
        distances = sorted(min(math.dist(pixel, other) for other in border) for border in borders if border)
        if len(distances) > 1:
            value = math.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
            closeness[pixel] = value if value >= NEGLIGIBLE else 0
    return closeness


def _row(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


def test_by_hand() -> None:
    # Two objects of class 1 at 0..1 and 5; their borders are at 1 and 5. In the gap d1 + d2 = 4, at 0 it is 1 + 5.
    closeness = measure_closeness(_row(1, 1, 0, 0, 0, 1), [1], sigma_px=5)
    gap, far = math.exp(-16 / 50), math.exp(-36 / 50)
    assert closeness.view(-1).tolist() == pytest.approx([far, gap, gap, gap, gap, gap], rel=1e-6)


def test_distances_lie_where_their_last_digits_are_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    measure = cv2.distanceTransform

    def note(*args: Any, **options: Any) -> np.ndarray:
        distance = measure(*args, **options)
        places.append(distance.ctypes.data % 64)
        return distance

    monkeypatch.setattr(cv2, "distanceTransform", note)
    stripes = torch.arange(33).expand(16, 33) % 3
    measure_closeness(stripes[None], [0, 1, 2], sigma_px=5)
    assert places == [0] * 33


def test_objects_that_touch_are_one_pixel_apart() -> None:
    closeness = measure_closeness(_row(0, 0, 0, 1, 1, 1), [0, 1], sigma_px=5)
    expected = [math.exp(-((2 * depth + 1) ** 2) / 50) for depth in (2, 1, 0, 0, 1, 2)]
    assert closeness.view(-1).tolist() == pytest.approx(expected, rel=1e-6)


def test_void_is_no_object_and_separates_none() -> None:
    closeness = measure_closeness(_row(0, 0, IGNORE_INDEX, IGNORE_INDEX, 1, 1), [0, 1], sigma_px=5)
    assert float(closeness[0, 0, 1]) == pytest.approx(math.exp(-9 / 50), rel=1e-6)
    assert (measure_closeness(_row(0, 0, IGNORE_INDEX, IGNORE_INDEX), [0, 1], sigma_px=5) == 0).all()


def test_pixels_that_touch_at_a_corner_are_one_object() -> None:
    corner = torch.eye(2, dtype=torch.int64)[None]
    assert (measure_closeness(corner, [1], sigma_px=5) == 0).all()


@pytest.mark.parametrize("value", [0, IGNORE_INDEX])
def test_an_image_of_one_value_has_no_border(value: int) -> None:
    assert (measure_closeness(torch.full((2, 4, 4), value), [0, 1], sigma_px=5) == 0).all()


def test_the_edge_of_the_image_is_no_border() -> None:
    # Else the far ends of the first object would be near its own edge: the only borders are at 3 and 4.
    closeness = measure_closeness(_row(*[0] * 4, *[1] * 30), [0, 1], sigma_px=5).view(-1)
    assert float(closeness[-1]) == 0
    assert float(closeness[0]) == pytest.approx(math.exp(-49 / 50), rel=1e-6)


@pytest.mark.parametrize("object_classes", [[0, 1, 2], [1], [0, 2]])
@pytest.mark.parametrize("sigma", [1.2, 2.0, 30.0])
def test_equals_the_slow_way(object_classes: list[int], sigma: float) -> None:
    # 1.2 px reach 4.5 px: many windows are smaller than the image.
    rng = np.random.default_rng(4)
    masks = rng.integers(0, 3, (2, 4, 5)).repeat(3, axis=1).repeat(3, axis=2)
    masks[0, 2:5, 6:9] = IGNORE_INDEX
    masks[1, ::5, ::4] = rng.integers(0, 3, masks[1, ::5, ::4].shape)
    closeness = measure_closeness(torch.from_numpy(masks), object_classes, sigma)
    expected = np.stack([_slow(mask, object_classes, sigma) for mask in masks])
    assert (expected > 0).any()
    np.testing.assert_allclose(closeness.numpy(), expected, rtol=2e-5, atol=1e-7)


def test_what_is_negligible_is_zero_wherever_the_window_ends() -> None:
    rng = np.random.default_rng(5)
    mask = rng.integers(0, 3, (1, 5, 5)).repeat(8, axis=1).repeat(8, axis=2)
    closeness = measure_closeness(torch.from_numpy(mask), [0, 1, 2], sigma_px=1.0)
    assert float(closeness[closeness > 0].min()) >= NEGLIGIBLE
    turned = measure_closeness(torch.from_numpy(mask[:, ::-1, ::-1].copy()), [0, 1, 2], sigma_px=1.0)
    assert torch.equal(turned.flip(1, 2), closeness)
