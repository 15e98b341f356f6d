"""Pictures of masks."""

import numpy as np
import pytest

from segpipe.classes import ClassTable
from segpipe.reports.drawing import overlay as overlay_module
from segpipe.reports.drawing.overlay import OPACITY, colorize, overlay, side_by_side

MASK = np.array([[0, 1, 255]], np.uint8)
IMAGE = np.array([[[100, 100, 100], [0, 50, 255], [7, 8, 9]]], np.uint8)


def test_colorize(classes: ClassTable) -> None:
    assert colorize(MASK, classes).tolist() == [[[128, 64, 128], [0, 0, 142], [0, 0, 0]]]


def test_overlay_mixes_and_leaves_void_alone(classes: ClassTable) -> None:
    assert OPACITY == 0.6
    # 0.4 * image + 0.6 * colour, rounded
    assert overlay(IMAGE, MASK, classes).tolist() == [[[117, 78, 117], [0, 20, 187], [7, 8, 9]]]
    assert overlay(IMAGE, MASK, classes).dtype == np.uint8


def test_overlay_of_all_values_is_the_rounded_mean(classes: ClassTable) -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (256, 6))
    image = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 6, 3))
    mixed = np.round((1 - OPACITY) * image + OPACITY * classes.color_lookup()[mask])
    np.testing.assert_array_equal(overlay(image, mask, classes), np.where(mask[..., None] == 255, image, mixed))


def test_side_by_side(classes: ClassTable) -> None:
    picture = side_by_side(IMAGE, [MASK, MASK[:, ::-1]], classes)
    assert picture.shape == (1, 9, 3)
    np.testing.assert_array_equal(picture[:, :3], IMAGE)
    np.testing.assert_array_equal(picture[:, 6:], colorize(MASK, classes)[:, ::-1])


def test_side_by_side_reduces_what_is_huge(classes: ClassTable, monkeypatch: pytest.MonkeyPatch) -> None:
    small = (np.arange(24).reshape(4, 6) * 10).astype(np.uint8)
    image = small.repeat(2, 0).repeat(2, 1)[..., None].repeat(3, 2)
    image[::2] += 8  # so that a pixel's mean is 4 more
    mask = (small % 3).repeat(2, 0).repeat(2, 1)
    monkeypatch.setattr(overlay_module, "MAX_PANEL_PX", 8 * 12)
    assert side_by_side(image, [mask], classes).shape == (8, 24, 3)
    monkeypatch.setattr(overlay_module, "MAX_PANEL_PX", 8 * 12 - 1)
    picture = side_by_side(image, [mask, mask], classes)
    assert picture.shape == (4, 18, 3)
    np.testing.assert_array_equal(picture[:, :6, 1], small + 4)
    np.testing.assert_array_equal(picture[:, 6:12], colorize(small % 3, classes))
