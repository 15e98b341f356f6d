"""Drawn labels against pycocotools' own decoder, labelme's own rules and pixels counted by hand."""

from __future__ import annotations

import base64
import io
import pickle
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from facts import facts_of, missing
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.drawing import (
    NUM_POINTS_OF_KIND,
    Polygons,
    RegionMask,
    RunLengths,
    Shape,
    ShapeMask,
    decode_run_lengths,
)

SIZE = (6, 8)
IMAGE, JSON = Path("a.jpg"), Path("a.json")


def _bytes(*numbers: float) -> bytes:
    return array("d", numbers).tobytes()


def _box(left: float, top: float, right: float, bottom: float) -> bytes:
    return _bytes(left, top, right, top, right, bottom, left, bottom)


def _polygons(index: int, *rings: bytes) -> Polygons:
    return Polygons(index, rings, f"annotation {index}")


def _packed(mask: npt.NDArray[np.bool_], index: int = 1) -> RunLengths:
    counts = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return RunLengths(index, counts, True, mask.shape, "annotation 7")  # type: ignore[arg-type]


def _unpacked(index: int, counts: list[int], size_hw: tuple[int, int] = SIZE) -> RunLengths:
    return RunLengths(index, array("q", counts).tobytes(), False, size_hw, "annotation 7")


def _draw(*regions: Polygons | RunLengths, background: int = 0, size_hw: tuple[int, int] = SIZE) -> Any:
    reading = RegionMask(IMAGE, regions, background).read(size_hw)
    assert reading.faults == ()
    assert reading.pixels is not None and reading.pixels.dtype == np.uint8
    return reading.pixels


def _fault_of(label: RegionMask | ShapeMask, size_hw: tuple[int, int] = SIZE) -> tuple[str, str, bool]:
    reading = label.read(size_hw)
    (fault,) = reading.faults
    return fault.kind, fault.what, reading.pixels is not None


def test_a_rectangle_covers_the_pixels_between_its_edges() -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[1:3, 2:6] = 3
    assert np.array_equal(_draw(_polygons(3, _box(2, 1, 6, 3))), expected)


def test_parts_of_one_object_are_all_drawn() -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[0, 0] = expected[5, 7] = 2
    assert np.array_equal(_draw(_polygons(2, _box(0, 0, 1, 1), _box(7, 5, 8, 6))), expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of its decoder, on numpy 2
def test_polygons_are_those_of_pycocotools_decoder() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        size_hw = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        corners = (rng.random((int(rng.integers(3, 9)), 2)) * size_hw[::-1]).ravel()
        expected = coco_mask.decode(coco_mask.frPyObjects([corners.tolist()], *size_hw))[..., 0]
        assert np.array_equal(_draw(_polygons(1, corners.tobytes()), size_hw=size_hw), expected)


def test_run_lengths_go_down_the_columns() -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[4:, 0] = expected[:1, 1] = 1
    assert np.array_equal(_draw(_unpacked(1, [4, 3, 41])), expected)


def test_run_lengths_may_begin_inside() -> None:
    assert (_draw(_unpacked(1, [0, 48])) == 1).all()


def test_packed_run_lengths_are_unpacked_by_hand() -> None:
    # 4, 3, 41 and 2 - 3 = -1: '4', '3', 41 = 9 + 32 * 1 -> 'Y1', -1 -> 'O'.
    assert decode_run_lengths(b"43Y1O").tolist() == [4, 3, 41, 2]


def test_packed_run_lengths_are_those_that_pycocotools_packs() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        size_hw = (int(rng.integers(1, 300)), int(rng.integers(1, 300)))
        mask = rng.random(size_hw) < rng.choice([0.001, 0.1, 0.5, 1.0])
        assert np.array_equal(_draw(_packed(mask), size_hw=size_hw), mask)


@pytest.mark.parametrize("packed", [b"", b"43Y", b"4\x7f", b"4 3", b"ooooooo1", b"o" * 100])
def test_what_is_not_packed_run_lengths_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"cannot be unpacked|greater than any image"):
        decode_run_lengths(packed)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        # pycocotools would give what memory holds by chance.
        (_unpacked(1, [4, 3]), "annotation 7 has run lengths of 7 px together, not 48"),
        (_unpacked(1, []), "annotation 7 has run lengths of 0 px together, not 48"),
        (_unpacked(1, [4, 3, 42]), "annotation 7 has run lengths of 49 px together, not 48"),
        (_unpacked(1, [40, -3, 11]), "annotation 7 has run lengths of 48 px together, not 48"),
        (_unpacked(1, [48], (8, 6)), "annotation 7 has run lengths for 6x8 px"),
        (RunLengths(1, b"43", True, SIZE, "annotation 7"), "annotation 7 has run lengths of 7 px together, not 48"),
        (RunLengths(1, b"~", True, SIZE, "annotation 7"), "annotation 7 has run lengths that cannot be unpacked"),
        (_polygons(3, _box(0, 0, 20, 2)), "annotation 3 lies far outside the image"),
        (_polygons(3, _box(0, 0, 1e300, 2)), "annotation 3 lies far outside the image"),
        (_polygons(3, _box(0, 0, float("nan"), 2)), "annotation 3 lies far outside the image"),
        (_polygons(3, _bytes(*(0, 0, 8, 0) * 200_000)), "annotation 3 has an outline of 3200000 px"),
    ],
)
def test_what_cannot_be_drawn_is_named(region: Polygons | RunLengths, message: str) -> None:
    label = RegionMask(IMAGE, (region,), 0)
    assert _fault_of(label) == ("annotation", message, False)


def test_all_faults_are_named_at_once() -> None:
    label = RegionMask(IMAGE, (_unpacked(1, [1]), _polygons(1, _box(0, 0, 1, 1)), _unpacked(2, [2])), 0)
    assert len(label.read(SIZE).faults) == 2


def test_what_lies_outside_is_cut_off_and_named() -> None:
    label = RegionMask(IMAGE, (_polygons(3, _box(5, -3.5, 11, 2)),), 0)
    assert _fault_of(label) == ("annotation-outside", "annotation 3 reaches 4 px beyond the image of 8x6 px", True)
    expected = np.zeros(SIZE, np.uint8)
    expected[:2, 5:] = 3
    assert np.array_equal(label.read(SIZE).pixels, expected)  # type: ignore[arg-type]


def test_a_slip_over_the_border_is_no_fault() -> None:
    assert (_draw(_polygons(3, _box(-1, -2, 9, 8))) == 3).all()


def test_the_smaller_object_is_on_top_in_any_order() -> None:
    large, small = _polygons(1, _box(0, 0, 6, 6)), _polygons(2, _box(1, 1, 3, 3))
    for regions in ((large, small), (small, large)):
        pixels = _draw(*regions)
        assert (pixels == 2).sum() == 4 and (pixels == 1).sum() == 32


def test_of_equal_objects_the_later_is_on_top() -> None:
    assert (_draw(_polygons(1, _box(0, 0, 8, 6)), _unpacked(2, [0, 48])) == 2).all()


def test_void_hides_no_object() -> None:
    object_, crowd = _polygons(1, _box(0, 0, 6, 6)), _polygons(IGNORE_INDEX, _box(4, 0, 8, 2))
    pixels = _draw(object_, crowd)
    assert (pixels == 1).sum() == 36 and (pixels == IGNORE_INDEX).sum() == 4


def test_without_objects_all_is_background() -> None:
    assert (_draw(background=IGNORE_INDEX) == IGNORE_INDEX).all()


@pytest.mark.parametrize("label", [RegionMask(IMAGE, (), 0, SIZE), ShapeMask(JSON, (), 0, SIZE)])
def test_another_image_than_the_labelled_one_is_named(label: RegionMask | ShapeMask) -> None:
    what = "has 16x12 px, but was labelled with 8x6 px"
    assert _fault_of(label, (12, 16)) == ("size-mismatch", what, False)


@pytest.mark.parametrize("label", [RegionMask(IMAGE, (), 0, SIZE), ShapeMask(JSON, (), 0, SIZE)])
def test_a_turned_image_gets_the_mask_of_its_upright_size(label: RegionMask | ShapeMask) -> None:
    reading = label.read(SIZE[::-1])
    assert reading.faults == () and reading.pixels is not None and reading.pixels.shape == SIZE


@pytest.mark.parametrize("label", [RegionMask(IMAGE, (), 0, SIZE), ShapeMask(JSON, (), 0)])
def test_of_an_image_that_cannot_be_read_nothing_more_is_said(label: RegionMask | ShapeMask) -> None:
    reading = label.read((0, 0))
    assert reading.pixels is None and reading.faults == ()


def test_the_key_is_what_is_drawn_and_not_its_name() -> None:
    def key(
        index: int = 1, name: str = "annotation 1", background: int = 0, size: tuple[int, int] | None = SIZE
    ) -> str:
        return RegionMask(IMAGE, (Polygons(index, (_box(0, 0, 1, 1),), name),), background, size).key

    assert key() == key(name="annotation 2")  # a new export counts again
    assert len({key(), key(index=2), key(background=1), key(size=None)}) == 4
    first, second = (RegionMask(IMAGE, (_unpacked(1, [n, 48 - n]),), 0).key for n in (1, 2))
    assert first != second


def test_labels_can_be_sent_to_a_worker() -> None:
    for label in (
        RegionMask(IMAGE, (_polygons(1, _box(0, 0, 1, 1)), _unpacked(1, [48])), 0),
        ShapeMask(JSON, (Shape(1, "point", _bytes(1, 1), "shape 1"),), 0),
    ):
        assert pickle.loads(pickle.dumps(label)) == label
        assert label.files


def _png(inside: npt.NDArray[np.bool_]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(inside.astype(np.uint8)).save(data, "PNG")
    return base64.b64encode(data.getvalue())


def _draw_shapes(*shapes: Shape, size_hw: tuple[int, int] = SIZE) -> Any:
    reading = ShapeMask(JSON, shapes, 0).read(size_hw)
    assert reading.faults == ()
    return reading.pixels


def test_shapes_have_both_edges() -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[1:4, 2:6] = 1
    for kind, points in (("rectangle", _bytes(5, 3, 2, 1)), ("polygon", _box(2, 1, 5, 3))):
        assert np.array_equal(_draw_shapes(Shape(1, kind, points, "")), expected)  # type: ignore[arg-type]


def test_a_circle_is_given_by_centre_and_rim() -> None:
    pixels = _draw_shapes(Shape(1, "circle", _bytes(10, 10, 14, 13), ""), size_hw=(21, 21))
    y, x = np.mgrid[:21, :21]
    distance = np.hypot(x - 10, y - 10)
    assert (pixels[distance <= 4.5] == 1).all() and (pixels[distance > 5.6] == 0).all()


@pytest.mark.parametrize(("centre_x", "rim_x", "is_outside"), [(10, 19, False), (10, 40, True), (0, 41, True)])
def test_a_circle_reaches_as_far_as_its_rim(centre_x: int, rim_x: int, is_outside: bool) -> None:
    canvas = Image.new("L", (41, 21), 0)
    fault = Shape(1, "circle", _bytes(centre_x, 10, rim_x, 10), "spot").draw(canvas)
    assert (fault is not None) == is_outside
    assert fault is None or fault.kind == "annotation-outside"


@pytest.mark.parametrize("kind", sorted(set(NUM_POINTS_OF_KIND) - {"mask", "circle", "point", "rectangle"}))
def test_shapes_are_drawn_as_by_labelme(kind: str) -> None:
    rng = np.random.default_rng(8)
    least, most = NUM_POINTS_OF_KIND[kind]
    xy = [tuple(point) for point in rng.random((most or least + 2, 2)) * (60, 50)]
    canvas = Image.new("1", (60, 50))
    draw = ImageDraw.Draw(canvas)
    if kind == "line":
        draw.line(xy, fill=1, width=10)
    elif kind == "linestrip":
        draw.line(xy, fill=1, width=10, joint="curve")
    else:
        draw.polygon(xy, fill=1, outline=1)
    points = _bytes(*(coordinate for point in xy for coordinate in point))
    pixels = _draw_shapes(Shape(1, kind, points, ""), size_hw=(50, 60))  # type: ignore[arg-type]
    assert np.array_equal(pixels, np.asarray(canvas))


def test_a_later_shape_covers_an_earlier_one() -> None:
    small = Shape(1, "rectangle", _bytes(1, 1, 2, 2), "")
    large = Shape(2, "rectangle", _bytes(0, 0, 7, 5), "")
    assert (_draw_shapes(small, large) == 2).all()
    assert (_draw_shapes(large, small) == 1).sum() == 4


def test_a_mask_lies_in_its_box() -> None:
    inside = np.array([[True, False, True], [False, True, True]])
    expected = np.zeros(SIZE, np.uint8)
    expected[3:5, 2:5][inside] = 4
    assert np.array_equal(_draw_shapes(Shape(4, "mask", _bytes(2, 3, 4, 4), "", _png(inside))), expected)
    # Of an edited box the corner counts, and the mask keeps its size.
    assert np.array_equal(_draw_shapes(Shape(4, "mask", _bytes(1.6, 2.7, 4.4, 4.2), "", _png(inside))), expected)


ONES = np.ones((2, 3), np.bool_)


@pytest.mark.parametrize(
    ("points", "patch", "message"),
    [
        ((2, 3, 5, 4), _png(ONES), "shape 1 has a mask of 3x2 px in a box of 4x2 px"),
        ((2, 3, 4, 4), b"no base64!", "shape 1: its mask is no PNG in base64"),
        ((2, 3, 4, 4), base64.b64encode(b"GIF89a"), "shape 1: its mask is no PNG in base64"),
        ((2, 3, 4, 4), _png(np.ones((100, 100), np.bool_)), "shape 1: its mask is larger than the image"),
        ((2, 3, 40, 4), _png(ONES), "shape 1 lies far outside the image"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(points: tuple[float, ...], patch: bytes, message: str) -> None:
    label = ShapeMask(JSON, (Shape(4, "mask", _bytes(*points), "shape 1", patch),), 0)
    kind, what, is_fixed = _fault_of(label)
    assert (kind, is_fixed) == ("annotation", False)
    assert not missing(what, *facts_of(message))


def test_a_truncated_mask_is_named() -> None:
    noise = np.random.default_rng(1).random((6, 8)) < 0.5
    patch = base64.b64encode(base64.b64decode(_png(noise))[:-30])
    label = ShapeMask(JSON, (Shape(4, "mask", _bytes(0, 0, 7, 5), "shape 1", patch),), 0)
    assert _fault_of(label)[1].startswith("shape 1: its mask cannot be decoded: ")
