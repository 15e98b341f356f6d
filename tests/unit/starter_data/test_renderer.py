"""The procedural streets: the same bits from the same seeds, labels that fit, and sequences that differ."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from starter_data import CLASS_COLORS, CLASS_NAMES, render_sequence
from starter_data.camera import NEAR_M, Camera, clip_near, to_camera, to_pixels
from starter_data.classes import POLE, VOID
from starter_data.raster import Canvas, fill_polygon
from starter_data.weather import WEATHERS, draw_weather

Frame = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def _render(seed: int = 0, sequence: int = 0, num_frames: int = 1, height: int = 96, width: int = 128) -> list[Frame]:
    return list(render_sequence(seed, sequence, num_frames, height, width))


def _difference(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(first.astype(np.float64) - second.astype(np.float64)).mean())


@pytest.fixture(scope="module")
def short_drives() -> list[list[Frame]]:
    """Five frames of each of six sequences."""
    return [_render(sequence=sequence, num_frames=5) for sequence in range(6)]


def test_same_seeds_give_the_same_bits(short_drives: list[list[Frame]]) -> None:
    """Image and mask are reproducible to the last bit."""
    for (image, mask), (again_image, again_mask) in zip(
        short_drives[2], _render(sequence=2, num_frames=5), strict=True
    ):
        np.testing.assert_array_equal(image, again_image)
        np.testing.assert_array_equal(mask, again_mask)


def test_a_frame_does_not_depend_on_how_many_are_asked_for(short_drives: list[list[Frame]]) -> None:
    """Frame 0 of one is frame 0 of five."""
    (image, mask), *_ = _render(sequence=1, num_frames=1)
    np.testing.assert_array_equal(image, short_drives[1][0][0])
    np.testing.assert_array_equal(mask, short_drives[1][0][1])


def test_another_seed_is_another_world() -> None:
    """A change of seed changes picture and labels alike."""
    ((image, mask),), ((other_image, other_mask),) = _render(seed=0), _render(seed=1)
    assert _difference(image, other_image) > 10
    assert np.mean(mask != other_mask) > 0.1


def test_no_frames_is_an_empty_sequence() -> None:
    """Zero frames is a request like any other."""
    assert _render(num_frames=0) == []


@pytest.mark.parametrize(("height", "width"), [(97, 131), (64, 64), (120, 50), (33, 200), (1, 1)])
def test_any_size_comes_out_as_asked(height: int, width: int) -> None:
    """Odd, square, upright, flat and tiny frames have the promised shape, dtype and labels."""
    for image, mask in _render(sequence=3, num_frames=2, height=height, width=width):
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        assert mask.shape == (height, width)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {*range(len(CLASS_NAMES)), VOID}


def test_the_picture_scales_with_its_size() -> None:
    """Twice the size shows the same scene, not another one."""
    ((_, small),), ((_, large),) = _render(height=96, width=128), _render(height=192, width=256)
    assert np.mean(small == large[::2, ::2]) > 0.85


def test_every_class_shows_and_void_stays_rare(short_drives: list[list[Frame]]) -> None:
    """Every class takes 0.2 % of the pixels or more; nothing lies between the classes and void."""
    labels = np.concatenate([mask.ravel() for drive in short_drives for _, mask in drive])
    shares = np.bincount(labels, minlength=256) / labels.size
    missing = [name for index, name in enumerate(CLASS_NAMES) if shares[index] < 0.002]
    assert missing == []
    assert 0.005 < shares[VOID] < 0.06
    assert shares[len(CLASS_NAMES) : VOID].sum() == 0


def test_sky_is_above_and_road_below(short_drives: list[list[Frame]]) -> None:
    """The horizon is near the middle of the frame, with the sky over it and the road under it."""
    masks = np.stack([mask for drive in short_drives for _, mask in drive])
    sky, road = CLASS_NAMES.index("sky"), CLASS_NAMES.index("road")
    assert not (masks[:, 60:] == sky).any()
    assert not (masks[:, :36] == road).any()
    assert (masks[:, 84] == road).mean() > 0.3


def test_neighbouring_frames_are_alike_and_sequences_differ(short_drives: list[list[Frame]]) -> None:
    """A step along a drive changes far less than a change of street."""
    steps = [_difference(a, b) for drive in short_drives for (a, _), (b, _) in pairwise(drive)]
    others = [
        _difference(first[0][0], second[0][0])
        for index, first in enumerate(short_drives)
        for second in short_drives[index + 1 :]
    ]
    assert min(steps) > 0, "a drive that stands still"
    assert np.mean(steps) < 0.5 * np.mean(others)


def test_names_and_colours_go_together() -> None:
    """Eleven names, eleven colours, none twice."""
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(set(CLASS_COLORS)) == len(CLASS_COLORS) == 11


def test_projection_by_hand() -> None:
    """One point, worked out on paper."""
    camera = Camera(x=0, y=1.5, z=10, yaw=0, pitch=0, focal_px=100, height=80, width=120)
    point = np.array([[1.0, 0.5, 20.0]], dtype=np.float32)
    # 10 m ahead, 1 m right, 1 m below the eye: 100 px / 10 = 10 px to the metre.
    np.testing.assert_allclose(to_pixels(camera, to_camera(camera, point)), [[60 + 10, 40 + 10]])


def test_clipping_keeps_the_part_ahead() -> None:
    """A triangle cut by the near plane becomes a quadrilateral; one behind the camera vanishes."""
    triangle = np.array([[0, 0, -1], [0, 0, 1], [1, 0, 1]], dtype=np.float32)
    clipped = clip_near(triangle)
    assert len(clipped) == 4
    assert clipped[:, 2].min() == pytest.approx(NEAR_M)
    assert len(clip_near(triangle - np.array([0, 0, 5], dtype=np.float32))) == 0


def test_a_polygon_paints_and_labels_the_same_pixels() -> None:
    """Image and mask cannot drift apart, since one primitive writes both."""
    camera = Camera(x=0, y=0, z=0, yaw=0, pitch=0, focal_px=10, height=20, width=20)
    weather = draw_weather(np.random.default_rng(0), "overcast")
    canvas = Canvas(camera, weather, np.zeros((20, 20, 3), np.float32), np.zeros((20, 20), np.uint8))
    square = np.array([[-0.4, -0.4, 1], [0.4, -0.4, 1], [0.4, 0.4, 1], [-0.4, 0.4, 1]], dtype=np.float32)
    fill_polygon(canvas, square, np.ones(3, np.float32), POLE)
    np.testing.assert_array_equal(canvas.mask == POLE, canvas.image[..., 0] > 0)
    # 0.8 m at 1 m and 10 px focal length: 8 px; OpenCV counts the border pixels in.
    assert 64 <= (canvas.mask == POLE).sum() <= 81
    assert canvas.mask[10, 10] == POLE


@pytest.mark.parametrize("name", sorted(set(WEATHERS)))
def test_weather_shines_from_above(name: str) -> None:
    """Every kind of weather has a sun over the horizon, some light and some haze."""
    weather = draw_weather(np.random.default_rng(3), name)
    assert np.linalg.norm(weather.sun_direction) == pytest.approx(1.0, abs=1e-5)
    assert weather.sun_direction[1] > 0
    assert weather.ambient_RGB.min() > 0
    assert weather.haze_per_m > 0
