"""The forms in which sources keep labels: one small type for each form, all read to class indices.

A label holds only names and numbers, so that it can be sent to a worker on another machine. A reader chooses the type
and gives it the meaning of the mask's values.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.classes import IGNORE_INDEX
from segpipe.data.images.decoding import (
    BITS_OF_CHANNEL,
    UPRIGHT,
    ImageFileError,
    decode,
    is_lossy,
    is_spread,
    num_pages_of,
    orientation_of,
)
from segpipe.data.masks.color_diagnosis import Colors, diagnose_colors
from segpipe.data.masks.diagnosis import MAX_VALUE, Values, diagnose_values, suspect_values
from segpipe.data.masks.histogram import count_values
from segpipe.faults import Fault, Reading

INDEX_MODES = frozenset({"L", "P", "1"})
INDEX_MODES_16_BIT = frozenset({"I;16", "I;16B", "I;16L", "I"})
COLOR_MODES = frozenset({"RGB", "RGBA", "P"})
SEVERAL_CHANNELS = frozenset({"RGB", "RGBA", "LA"})
OPAQUE = 255
MAX_COLORS_OF_MASK = 1000
UNKNOWN = 0xFFFF

SAVE_WITHOUT_ALPHA = "Save one channel of class indices without alpha"
LOSSY = Fault(
    "mask-lossy",
    "is compressed with loss (JPEG): all its values are known, but they may differ from those that were drawn",
    "Export it again as PNG from the annotation tool",
)

Color = tuple[int, int, int]


class Label(Protocol):
    """What a sample's label can do."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that `read` reads; the first is the one to name in messages."""

    @property
    def key(self) -> str:
        """Identifies all that decides what `read` gives, except the files' content."""

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Reads the mask.

        Args:
            size_hw: of the image in px, for labels that are drawn; a mask with pixels of its own keeps its size.

        Returns:
            (height, width) uint8 class indices, void = `IGNORE_INDEX`.
        """


def digest_of(*parts: Any) -> str:
    """Gives a label's key: 16 hexadecimal digits of what JSON makes of its parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def plain_indices(num_classes: int, void_values: Iterable[int] = (IGNORE_INDEX,)) -> dict[int, int]:
    """Gives the meaning of mask values where value i is class i and some values are void, for `IndexMask`."""
    return {**{index: index for index in range(num_classes)}, **dict.fromkeys(void_values, IGNORE_INDEX)}


@dataclass(frozen=True)
class IndexMask:
    """A picture of one channel whose values stand for classes; a palette's indices count, its colours do not.

    Args:
        path: of the picture.
        indices: class index, or `IGNORE_INDEX`, of each known value (0..65535).
    """

    path: Path
    indices: Mapping[int, int]

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture."""
        return (self.path,)

    @property
    def key(self) -> str:
        """The meaning of the values."""
        return digest_of("index", sorted(self.indices.items()))

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Maps each value to its class."""
        try:
            image, bits = decode(self.path)
        except ImageFileError as error:
            return Reading(None, (error.fault,))
        if fault := fault_of_container(image):
            return Reading(None, (fault,))
        values, faults = values_of(image, bits)
        if values is None:
            return Reading(None, faults)
        mapped = look_up(values, self.indices, is_lossy(image, self.path))
        return Reading(mapped.pixels, (*faults, *mapped.faults))


def fault_of_container(image: Image.Image) -> Fault | None:
    """Says what is wrong with a mask's file before its values are looked at."""
    if num_pages_of(image) > 1:
        what = f"holds {num_pages_of(image)} pages; a mask is one picture"
        return Fault("mask-mode", what, "Save one picture whose values are class indices, not a page for each class")
    if is_spread(image):
        what = "is a PGM whose white is neither 255 nor 65535, so that programs read its values differently"
        return Fault("mask-depth", what, "Save it as PNG")
    if orientation_of(image) != UPRIGHT:
        what = f"is turned by an EXIF entry (orientation {orientation_of(image)}), which programs read differently"
        return Fault("mask-turned", what, "Save it upright, as its image is shown, without the entry")
    return None


def values_of(image: Image.Image, bits: int) -> tuple[npt.NDArray[Any] | None, tuple[Fault, ...]]:
    """Gives a decoded picture's values as they were stored, or the reason why it is no mask of one channel."""
    if image.mode in SEVERAL_CHANNELS:
        return _single_channel(image)
    if image.mode in INDEX_MODES | INDEX_MODES_16_BIT and (is_seen_through := find_transparent(image, bits)).any():
        what = f"has {np.count_nonzero(is_seen_through)} px that are not opaque"
        return None, (Fault("mask-alpha", what, SAVE_WITHOUT_ALPHA, is_seen_through),)
    if image.mode in INDEX_MODES_16_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > MAX_VALUE:
            what = f"holds values {values.min()}..{values.max()}"
            return None, (Fault("mask-depth", what, f"A mask's values are 0..{MAX_VALUE}"),)
        return values.astype(np.uint16), ()
    if image.mode in INDEX_MODES:
        values = np.asarray(image, np.uint8)
        if image.mode == "L":
            values = values // _spread_of(bits)
        return values, ()
    kind = "fractions" if image.mode == "F" else f"pixels of mode {image.mode}"
    return None, (Fault("mask-mode", f"holds {kind}, not class indices", "Save one channel of class indices"),)


def _spread_of(bits: int) -> int:
    """Gives the factor by which Pillow spreads grey values of 2 and 4 bits over 0..255."""
    return 255 // (2**bits - 1) if bits < BITS_OF_CHANNEL else 1


def find_transparent(image: Image.Image, bits: int) -> npt.NDArray[np.bool_]:
    """Finds the pixels that are not opaque, by an alpha channel or by a value, colour or palette entry marked so."""
    transparent = image.info.get("transparency")
    if image.mode in {"RGBA", "LA"}:
        return np.asarray(np.asarray(image.getchannel("A")) != OPAQUE)
    if not isinstance(transparent, int | tuple | bytes):  # a text entry of a PNG may have this name too
        return np.zeros((image.height, image.width), np.bool_)
    if image.mode in INDEX_MODES_16_BIT | {"L"}:
        # Of 2 and 4 bits Pillow compares the entry with values that it has spread already; of 16 bits it compares none.
        return np.asarray(np.asarray(image) == transparent * _spread_of(bits))
    return np.asarray(np.asarray(image.convert("RGBA").getchannel("A")) != OPAQUE)


def _single_channel(image: Image.Image) -> tuple[npt.NDArray[np.uint8] | None, tuple[Fault, ...]]:
    """Gives one channel of a picture whose colour channels are equal, and the fault that says so."""
    pixels = np.asarray(image)
    has_alpha = image.mode in {"RGBA", "LA"}
    colors = pixels[..., :-1] if has_alpha else pixels
    if (colors != colors[..., :1]).any():
        parts = colors.astype(np.uint32)
        # Sorting rows of three would take seconds.
        num_colors = len(np.unique(parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]))
        looks = "as a photograph does" if num_colors > MAX_COLORS_OF_MASK else "not class indices"
        what = f"holds colours (mode {image.mode}, {num_colors} different), {looks}"
        fix = "Save one channel of class indices, or give the colours' meaning (a label map)"
        return None, (Fault("mask-mode", what, fix),)
    if (is_seen_through := find_transparent(image, BITS_OF_CHANNEL)).any():
        what = f"has {np.count_nonzero(is_seen_through)} px that are not opaque"
        if (colors == colors[0, 0]).all():
            what += ", and one value in all others: its labels are only in the transparency"
        return None, (Fault("mask-alpha", what, SAVE_WITHOUT_ALPHA, is_seen_through),)
    what = f"repeats its values in {colors.shape[2]} channels (mode {image.mode})"
    if colors.shape[2] == 1:
        what = f"has an alpha channel without information (mode {image.mode})"
    fault = Fault("mask-mode", what, "Save one channel", is_fixed=True)
    return np.ascontiguousarray(colors[..., 0]), (fault,)


def look_up(values: npt.NDArray[Any], indices: Mapping[int, int], is_lossy: bool = False) -> Reading:
    """Maps values to class indices, or says what is wrong with unknown values.

    Args:
        values: (height, width) uint8 or uint16, as the source has them.
        indices: class index, or `IGNORE_INDEX`, of each known value.
        is_lossy: whether they come from a file that was compressed with loss.
    """
    num_values = 256 if values.dtype == np.uint8 else MAX_VALUE + 1
    is_known = np.zeros(num_values, np.bool_)
    lookup = np.full(num_values, IGNORE_INDEX, np.uint8)
    for value, index in indices.items():
        if value < num_values:
            is_known[value], lookup[value] = True, index
    # Counting finds unknown values in one pass over the pixels.
    num_px = count_values(values, num_values)
    if num_px[~is_known].any():
        diagnosis = diagnose_values(Values(values, num_px, indices, is_lossy))
        if diagnosis.fixed is None:
            return Reading(None, (diagnosis.fault,))
        fixed = look_up(diagnosis.fixed, indices, is_lossy)
        return Reading(fixed.pixels, (diagnosis.fault, *fixed.faults))
    faults = suspect_values(num_px, indices) + ((LOSSY,) if is_lossy else ())
    return Reading(np.asarray(cv2.LUT(values, lookup) if num_values == 256 else lookup[values], np.uint8), faults)


@dataclass(frozen=True)
class ColorMask:
    """A picture whose colours stand for classes; a palette's colours count, its indices do not.

    Args:
        path: of the picture.
        indices: class index, or `IGNORE_INDEX`, of each known RGB colour.
    """

    path: Path
    indices: Mapping[Color, int]

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture."""
        return (self.path,)

    @property
    def key(self) -> str:
        """The meaning of the colours."""
        return digest_of("color", sorted(self.indices.items()))

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Maps each colour to its class."""
        try:
            image, bits = decode(self.path)
        except ImageFileError as error:
            return Reading(None, (error.fault,))
        if fault := fault_of_container(image) or fault_of_colors(image, bits):
            return Reading(None, (fault,))
        image.info.pop("transparency", None)  # Pillow would carry it along, with a warning
        rgb = np.asarray(image.convert("RGB"))
        mapped = _look_up_colors(rgb, self.indices)
        lossy = is_lossy(image, self.path)
        if mapped is None:
            palette_indices = np.asarray(image) if image.mode == "P" else None
            return Reading(None, (diagnose_colors(Colors(rgb, self.indices, palette_indices, lossy)),))
        return Reading(mapped, (LOSSY,) if lossy else ())


def fault_of_colors(image: Image.Image, bits: int) -> Fault | None:
    """Says why a picture is no mask of colours, before its colours are looked at."""
    if image.mode not in COLOR_MODES or bits > BITS_OF_CHANNEL:
        what = f"holds pixels of mode {image.mode}, {bits} bits a channel, not colours"
        fix = "Save it as 8-bit RGB or as a palette; if its values are class indices, read it as an index mask"
        return Fault("mask-mode", what, fix)
    if (is_seen_through := find_transparent(image, bits)).any():
        what = f"has {np.count_nonzero(is_seen_through)} px that are not opaque"
        return Fault("mask-alpha", what, "Export it without transparency", is_seen_through)
    return None


def _look_up_colors(rgb: npt.NDArray[np.uint8], indices: Mapping[Color, int]) -> npt.NDArray[np.uint8] | None:
    """Maps colours to class indices; None if one is unknown.

    Sorting the pixels, as np.unique does, would take longer than decoding them. So each channel's known values get
    numbers, three numbers make a place in a small table, and all unknown values share a place without a class.
    """
    known = np.array(list(indices), np.int64).reshape(-1, 3)
    numbers = np.zeros((256, 3), np.uint8)
    sizes = []
    for channel in range(3):
        values = np.unique(known[:, channel])
        numbers[values, channel] = np.arange(len(values)) + 1 if len(values) < 256 else np.arange(256)
        sizes.append(min(len(values) + 1, 256))
    strides = np.array([sizes[1] * sizes[2], sizes[2], 1])
    table = np.full(sizes[0] * sizes[1] * sizes[2], UNKNOWN, np.uint16)
    for color, index in indices.items():
        table[int(numbers[color, [0, 1, 2]] @ strides)] = index
    places_of = np.ascontiguousarray((numbers * strides).astype(np.int32).T)
    red, green, blue = (cv2.LUT(channel, places_of[i]) for i, channel in enumerate(cv2.split(rgb)))
    mapped = table.take(np.asarray(red + green + blue, np.int32))
    return None if mapped.max() == UNKNOWN else mapped.astype(np.uint8)
