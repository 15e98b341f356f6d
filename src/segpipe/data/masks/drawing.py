"""Labels that are drawn: outlines, run lengths and shapes of annotation tools, read to class indices.

Two tools' rules are followed to the pixel, because they differ: COCO's (`RegionMask`: polygons by pycocotools, whose
right and lower edges are left out) and LabelMe's (`ShapeMask`: Pillow, both edges drawn).

The shapes are part of the label and of its `key`. So after a new export of a large annotation file, only the samples
whose annotations changed are read again.
"""

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, UnidentifiedImageError
from pycocotools import mask as coco_mask

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.labels import digest_of
from segpipe.faults import Fault, Reading

OUTSIDE = "annotation-outside"  # with faults of this kind alone, the label can still be drawn
# Tools round, and a hand may slip over the border; a point farther out is a fault.
TOLERATED_OUTSIDE_PX = 2.0
# A polygon's memory grows with its length: this is the outline of 500,000 x 500,000 px.
MAX_OUTLINE_PX = 2_000_000
NUM_COORDINATES_OF_TRIANGLE = 6

# LabelMe draws these itself when it makes masks (labelme.utils.shape_to_mask).
LINE_WIDTH_PX = 10
POINT_RADIUS_PX = 5

ShapeKind = Literal["polygon", "oriented_rectangle", "rectangle", "circle", "line", "linestrip", "point", "mask"]
NUM_POINTS_OF_KIND: dict[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "oriented_rectangle": (4, 4),
    "rectangle": (2, 2),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "mask": (2, 2),
}

Runs = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


class DrawingError(ValueError):
    """Something that cannot be drawn.

    Args:
        fault: what is wrong with it.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Polygons:
    """An object of COCO by the outlines of its parts.

    Args:
        index: class index, or `IGNORE_INDEX`.
        rings: x0, y0, x1, y1, ... of each part as the bytes of float64, in px; pixel (0, 0) covers 0..1.
        name: what messages call it.
    """

    index: int
    rings: tuple[bytes, ...]
    name: str = field(compare=False, repr=False)

    def runs(self, size_hw: tuple[int, int]) -> tuple[list[Runs], Fault | None]:
        """Gives the run lengths of each part, and what of it lies outside the image.

        Raises:
            DrawingError: it lies far outside the image.
        """
        rings = [np.frombuffer(ring) for ring in self.rings]
        fault = check_inside(np.concatenate(rings).reshape(-1, 2), size_hw, self.name)
        for ring in rings:
            _refuse_endless(ring.reshape(-1, 2), self.name)
        encoded = coco_mask.frPyObjects(rings, *size_hw)
        return [decode_run_lengths(part["counts"]) for part in encoded], fault


@dataclass(frozen=True, slots=True)
class RunLengths:
    """An object of COCO by its pixels, column by column: how many are outside, inside, outside, ...

    Args:
        index: class index, or `IGNORE_INDEX`.
        counts: the run lengths, as the bytes of int64 or as COCO packs them into text.
        is_packed: whether they are packed into text.
        size_hw: of their image, in px.
        name: what messages call it.
    """

    index: int
    counts: bytes
    is_packed: bool
    size_hw: tuple[int, int]
    name: str = field(compare=False, repr=False)

    def runs(self, size_hw: tuple[int, int]) -> tuple[list[Runs], Fault | None]:
        """Gives the run lengths.

        Raises:
            DrawingError: they are for an image of another size.
        """
        if self.size_hw != size_hw:
            raise DrawingError(
                _wrong_annotation(self.name, f"has run lengths for {shown_size(self.size_hw)} px", size_hw)
            )
        try:
            runs = decode_run_lengths(self.counts) if self.is_packed else np.frombuffer(self.counts, np.int64)
        except ValueError as error:
            raise DrawingError(_wrong_annotation(self.name, f"has run lengths that {error}", size_hw)) from error
        # pycocotools' decoder is not used: if the runs end too early, it gives uninitialised memory.
        num_px = size_hw[0] * size_hw[1]
        if runs.size == 0 or (runs < 0).any() or (runs > num_px).any() or int(runs.sum()) != num_px:
            what = f"has run lengths of {int(runs.sum())} px together, not {num_px}"
            raise DrawingError(_wrong_annotation(self.name, what, size_hw))
        return [runs], None


def decode_run_lengths(packed: bytes) -> Runs:
    """Unpacks COCO's compressed run lengths.

    Each number is written as groups of five bits, the lowest first, in characters from '0' on; a sixth bit says that
    more follow; the last group's highest bit is the sign. From the fourth number on, the difference to the number two
    before is written.

    Args:
        packed: the text.

    Returns:
        (n,) int64.

    Raises:
        ValueError: the text is not such numbers.
    """
    groups = np.frombuffer(packed, np.uint8).astype(np.int64) - ord("0")
    if groups.size == 0 or groups.min() < 0 or groups.max() >= 64 or groups[-1] & 32:
        raise ValueError("cannot be unpacked")
    ends = np.flatnonzero(groups & 32 == 0)
    begins = np.concatenate(([0], ends[:-1] + 1))
    num_groups = ends - begins + 1
    if num_groups.max() > 7:  # 35 bits
        raise ValueError("are greater than any image")
    position = np.arange(groups.size) - np.repeat(begins, num_groups)
    numbers: Runs = np.add.reduceat((groups & 31) << (5 * position), begins)
    numbers -= np.where(groups[ends] & 16, 1 << (5 * num_groups), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


@dataclass(frozen=True)
class RegionMask:
    """The label of an image whose objects COCO JSON describes.

    Where objects overlap, the one with fewer pixels is on top, and void regions are below all: a small object on a
    large one stays visible. Objects with equally many pixels are drawn in the file's order.

    Args:
        image: the file of the image.
        regions: the objects.
        background: class index, or `IGNORE_INDEX`, of the pixels of no object.
        size_hw: of the image that was labelled, in px, if the file says it.
    """

    image: Path
    regions: tuple[Polygons | RunLengths, ...]
    background: int
    size_hw: tuple[int, int] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, which messages name: no file is read, the shapes are part of the label."""
        return (self.image,)

    @property
    def key(self) -> str:
        """All that is drawn."""
        return digest_of("regions", self.background, self.size_hw, *map(repr, self.regions))

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Draws the objects."""
        if 0 in size_hw:
            return Reading(None)  # the image cannot be read, which its own fault says
        size_hw, fault = size_to_draw(self.size_hw, size_hw)
        if fault is not None:
            return Reading(None, (fault,))
        drawn: list[tuple[int, list[Runs]]] = []
        faults: list[Fault] = []
        for region in self.regions:
            try:
                runs, fault = region.runs(size_hw)
            except DrawingError as error:
                fault = error.fault
            else:
                drawn.append((region.index, runs))
            faults += [] if fault is None else [fault]
        if any(fault.kind != OUTSIDE for fault in faults):
            return Reading(None, tuple(faults))
        return Reading(_paint(drawn, self.background, size_hw), tuple(faults))


def _paint(drawn: list[tuple[int, list[Runs]]], background: int, size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    drawn.sort(key=lambda region: (region[0] != IGNORE_INDEX, -sum(int(runs[1::2].sum()) for runs in region[1])))
    height, width = size_hw
    columns = np.full(width * height, background, np.uint8)
    for index, parts in drawn:
        for runs in parts:
            edges = np.cumsum(runs).tolist()
            for begin, end in zip(edges[0::2], edges[1::2], strict=False):
                columns[begin:end] = index
    return np.ascontiguousarray(columns.reshape(width, height).T)


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape as LabelMe keeps it.

    Args:
        index: class index, or `IGNORE_INDEX`.
        kind: polygon and oriented_rectangle: the corners; rectangle: two opposite corners; circle: centre and a point
            of the rim; line and linestrip: the points, drawn 10 px wide; point: drawn as a disc of radius 5 px; mask:
            the box of `patch`, both corners inside.
        points: x0, y0, x1, y1, ... as the bytes of float64, in px.
        name: what messages call it.
        patch: of a mask, a PNG in base64; its pixels above 0 are inside.
    """

    index: int
    kind: ShapeKind
    points: bytes
    name: str = field(compare=False, repr=False)
    patch: bytes = b""

    def draw(self, canvas: Image.Image) -> Fault | None:
        """Draws the shape onto a picture of mode L.

        Returns:
            A fault if a part of it lies outside.

        Raises:
            DrawingError: it lies far outside the picture, or its patch is damaged.
        """
        points = np.frombuffer(self.points).reshape(-1, 2)
        size_hw = canvas.height, canvas.width
        fault = check_inside(points, size_hw, self.name)
        if self.kind == "circle" and fault is None:
            # Its rim reaches farther than its two points; how far does not matter, as long as they are in the image.
            radius = float(np.hypot(*(points[1] - points[0])))
            limits = np.array([size_hw[1], size_hw[0]], np.float64)
            rim = np.clip([points[0] - radius, points[0] + radius], -limits, 2 * limits)
            fault = check_inside(rim, size_hw, self.name)
        if self.kind == "mask":
            self._draw_patch(canvas, points)
        else:
            _draw_outline(ImageDraw.Draw(canvas), self.kind, [(x, y) for x, y in points.tolist()], self.index)
        return fault

    def _draw_patch(self, canvas: Image.Image, points: Points) -> None:
        inside = _decode_patch(self.patch, self.name, canvas.width * canvas.height)
        (left, top), (right, bottom) = points.round().astype(np.int64).tolist()
        height, width = inside.shape
        # With whole numbers both corners are inside. After an edit LabelMe keeps fractions: then the patch decides.
        if np.array_equal(points, np.trunc(points)) and (height, width) != (bottom - top + 1, right - left + 1):
            what = f"has a mask of {width}x{height} px in a box of {right - left + 1}x{bottom - top + 1} px"
            raise DrawingError(_wrong_annotation(self.name, what, (canvas.height, canvas.width)))
        canvas.paste(self.index, (left, top), Image.fromarray(inside))


def _draw_outline(draw: ImageDraw.ImageDraw, kind: ShapeKind, xy: list[tuple[float, float]], index: int) -> None:
    if kind == "rectangle":
        (x0, y0), (x1, y1) = xy
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=index, outline=index)
    elif kind == "circle":
        radius = float(np.hypot(xy[0][0] - xy[1][0], xy[0][1] - xy[1][1]))
        _draw_disc(draw, xy[0], radius, index)
    elif kind == "point":
        _draw_disc(draw, xy[0], POINT_RADIUS_PX, index)
    elif kind == "line":
        draw.line(xy, fill=index, width=LINE_WIDTH_PX)
    elif kind == "linestrip":
        draw.line(xy, fill=index, width=LINE_WIDTH_PX, joint="curve")
    else:
        draw.polygon(xy, fill=index, outline=index)


def _draw_disc(draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, index: int) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=index, outline=index)


def _decode_patch(patch: bytes, name: str, max_px: int) -> npt.NDArray[np.bool_]:
    what = "its mask is larger than the image"
    try:
        with Image.open(io.BytesIO(base64.b64decode(patch, validate=True)), formats=["PNG"]) as picture:
            if picture.width * picture.height <= max_px:
                return np.asarray(picture.convert("L")) > 0
    except (UnidentifiedImageError, binascii.Error):
        what = "its mask is no PNG in base64"
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, TypeError) as error:
        what = f"its mask cannot be decoded: {error}"
    raise DrawingError(Fault("annotation", f"{name}: {what}", "Label it again"))


@dataclass(frozen=True)
class ShapeMask:
    """The label of an image whose shapes are in a LabelMe file; a later shape covers an earlier one, as in LabelMe.

    Args:
        path: of the JSON file.
        shapes: in the file's order.
        background: class index, or `IGNORE_INDEX`, of the pixels of no shape.
        size_hw: of the image that was labelled, in px, if the file says it.
    """

    path: Path
    shapes: tuple[Shape, ...]
    background: int
    size_hw: tuple[int, int] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The JSON file."""
        return (self.path,)

    @property
    def key(self) -> str:
        """All that is drawn."""
        return digest_of("shapes", self.background, self.size_hw, *map(repr, self.shapes))

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Draws the shapes."""
        if 0 in size_hw:
            return Reading(None)  # the image cannot be read, which its own fault says
        size_hw, fault = size_to_draw(self.size_hw, size_hw)
        if fault is not None:
            return Reading(None, (fault,))
        canvas = Image.new("L", (size_hw[1], size_hw[0]), self.background)
        faults: list[Fault] = []
        for shape in self.shapes:
            try:
                fault = shape.draw(canvas)
            except DrawingError as error:
                fault = error.fault
            faults += [] if fault is None else [fault]
        if any(fault.kind != OUTSIDE for fault in faults):
            return Reading(None, tuple(faults))
        return Reading(np.asarray(canvas).copy(), tuple(faults))


def size_to_draw(
    labelled_hw: tuple[int, int] | None, image_hw: tuple[int, int]
) -> tuple[tuple[int, int], Fault | None]:
    """Decides on the size of the mask, and finds an image that is not the labelled one.

    An image that an EXIF entry turns by a quarter is labelled as it is shown, height and width exchanged; the mask is
    then drawn in that size, and the image is turned too.
    """
    if labelled_hw is None or labelled_hw == image_hw:
        return image_hw, None
    if labelled_hw == image_hw[::-1]:
        return labelled_hw, None
    what = f"has {shown_size(image_hw)} px, but was labelled with {shown_size(labelled_hw)} px"
    return image_hw, Fault("size-mismatch", what, "Replace it by the image that was labelled, or label this one")


def check_inside(points: Points, size_hw: tuple[int, int], name: str) -> Fault | None:
    """Finds points outside an image; `TOLERATED_OUTSIDE_PX` are no fault.

    Args:
        points: (n, 2) x and y in px.
        size_hw: of the image in px.
        name: of the outlined object, for the message.

    Returns:
        The fault; what lies outside is cut off.

    Raises:
        DrawingError: they are farther out than the image is wide or high, or are not finite.
    """
    limits = np.array([size_hw[1], size_hw[0]], np.float64)
    outside_px = np.maximum(-points, points - limits)
    if not np.isfinite(points).all() or (outside_px > limits).any():
        raise DrawingError(_wrong_annotation(name, "lies far outside the image", size_hw))
    if (farthest_px := float(outside_px.max())) <= TOLERATED_OUTSIDE_PX:
        return None
    what = f"{name} reaches {farthest_px:.0f} px beyond the image of {shown_size(size_hw)} px"
    return Fault(OUTSIDE, what, "Check whether all labels of the image are shifted; what lies outside is cut off")


def _refuse_endless(corners: Points, name: str) -> None:
    lengths_px = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1)
    if lengths_px.sum() > MAX_OUTLINE_PX:
        what = f"{name} has an outline of {int(lengths_px.sum())} px"
        raise DrawingError(Fault("annotation", what, "Label it again"))


def _wrong_annotation(name: str, what: str, size_hw: tuple[int, int]) -> Fault:
    fix = f"Check whether it was made for another image: this one has {shown_size(size_hw)} px"
    return Fault("annotation", f"{name} {what}", fix)


def shown_size(size_hw: Sequence[int]) -> str:
    """Shows a size as people write it: width x height."""
    return f"{size_hw[1]}x{size_hw[0]}"
