"""Names the cause of unknown mask values: which mistake makes such values, and where they are.

Each known mistake is a function that returns a diagnosis or None. The first diagnosis decides, so the surest functions
come first. They need not be fast, because they run for wrong masks only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.stray_pixels import (
    COMPRESSED,
    EXPORT_AGAIN,
    EXPORT_LOSSLESS,
    RESIZED,
    is_along_edges,
    is_near_edges,
    is_rippled,
)
from segpipe.faults import Fault, shown

BYTE = 0xFF
MAX_VALUE = 0xFFFF
INSTANCES_PER_CLASS = 1000  # Cityscapes' instanceIds: 1000 times the class and a number
MIN_VALUES_OF_JPEG, MIN_VALUES_OF_PHOTO = 4, 100
MIN_WIDE_GAP, MAX_FAINT_UNITS = 16, 4  # JPEG of the best quality strays by a few units, between values far apart
NUM_PALETTE_COLORS = 22


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a mask.

    Args:
        fault: the cause.
        fixed: the intended values, if only one meaning is possible; then `fault.is_fixed`.
    """

    fault: Fault
    fixed: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Values:
    """A mask of one channel that holds unknown values.

    Args:
        pixels: (height, width) uint8 or uint16.
        num_px: pixels of each value, (256,) or (65536,).
        indices: class index, or `IGNORE_INDEX`, of each known value.
        is_lossy: whether its file was compressed with loss.
    """

    pixels: npt.NDArray[Any]
    num_px: npt.NDArray[np.int64]
    indices: Mapping[int, int]
    is_lossy: bool

    @cached_property
    def present(self) -> list[int]:
        """The values that occur, in order."""
        return [int(value) for value in np.flatnonzero(self.num_px)]

    @cached_property
    def unknown(self) -> list[int]:
        """Those of them that are not in `indices`."""
        return [value for value in self.present if value not in self.indices]

    @cached_property
    def of_classes(self) -> list[int]:
        """The known values that are classes, in order."""
        return sorted(value for value, index in self.indices.items() if index != IGNORE_INDEX)

    @cached_property
    def is_wrong(self) -> npt.NDArray[np.bool_]:
        """Where the unknown values are, (height, width)."""
        is_unknown = np.zeros(len(self.num_px), np.bool_)
        is_unknown[self.unknown] = True
        return np.asarray(is_unknown[self.pixels])

    @property
    def shown_unknown(self) -> str:
        """The unknown values, for a message."""
        return f"{shown(self.unknown)} ({int(self.num_px[self.unknown].sum())} px)"

    def fault(self, kind: str, what: str, fix: str) -> Diagnosis:
        """A diagnosis that marks the unknown values."""
        return Diagnosis(Fault(kind, what, fix, self.is_wrong))

    def fixed_fault(self, kind: str, what: str, fix: str, values: npt.NDArray[Any]) -> Diagnosis:
        """A diagnosis with the values that were meant."""
        return Diagnosis(Fault(kind, what, fix, is_fixed=True), values)


def diagnose_values(values: Values) -> Diagnosis:
    """Says what is wrong with a mask that holds unknown values."""
    for mistake in (
        _multiplied_to_16_bit,
        _instance_numbers,
        _binary,
        _zero_and_one,
        _next_to_the_table,
        _spread_for_viewing,
        _greys_of_a_palette,
        _photograph_in_grey,
        _values_along_edges,
        _values_of_compression,
    ):
        diagnosis = mistake(values)
        if diagnosis is not None:
            return diagnosis
    what = f"holds values outside the class table: {values.shown_unknown}"
    fix = f"Known are {shown(sorted(values.indices), 40)}: add a class or a void value, or fix the mask"
    if max(values.present) > BYTE:
        return values.fault("mask-depth", f"{what}; 16-bit values", f"{fix}. It may be a depth or an instance map")
    return values.fault("mask-values", what, fix)


def suspect_values(num_px: npt.NDArray[np.int64], indices: Mapping[int, int]) -> tuple[Fault, ...]:
    """Says what is doubtful about a mask whose values are all known.

    Args:
        num_px: pixels of each value.
        indices: as in `Values`.
    """
    is_binary = np.flatnonzero(num_px).tolist() == [0, BYTE]
    if not is_binary or indices[BYTE] != IGNORE_INDEX or sorted(set(indices.values())) != [0, 1, IGNORE_INDEX]:
        return ()
    what = "holds only 0 and 255, and 255 is void: in a 0/255 mask it would mean class 1"
    fix = (
        "Give the classes the values 0 and 255 in the class table, or save class 1 as 1; if 255 does mean void here, "
        "set preprocess.policy.actions: {mask-binary-void: warn}"
    )
    return (Fault("mask-binary-void", what, fix),)


def _multiplied_to_16_bit(values: Values) -> Diagnosis | None:
    for factor, cause in ((257, "as a conversion from 8 to 16 bits makes them"), (256, "as exchanged bytes make them")):
        if max(values.present) > BYTE and all(
            value % factor == 0 and value // factor in values.indices for value in values.present
        ):
            what = f"holds 16-bit values that are {factor} times class indices, {cause}: {shown(values.present)}"
            fix = f"Divide them by {factor} and save 8 bits"
            return values.fixed_fault("mask-depth", what, fix, values.pixels // factor)
    return None


def _instance_numbers(values: Values) -> Diagnosis | None:
    large = [value for value in values.present if value >= INSTANCES_PER_CLASS]
    small = [value for value in values.present if value < INSTANCES_PER_CLASS]
    if (
        not large
        or not all(v // INSTANCES_PER_CLASS in values.indices for v in large)
        or set(small) - {*values.indices}
    ):
        return None
    what = f"holds instance numbers (1000 times the class, and a count): {shown(large)}"
    return values.fault("mask-depth", what, "Take the file of class indices next to it, in Cityscapes *_labelIds.png")


def _binary(values: Values) -> Diagnosis | None:
    if values.present not in ([0, BYTE], [BYTE], [0, MAX_VALUE], [MAX_VALUE]) or max(values.present) in values.indices:
        return None
    highest = max(values.present)
    what = f"is a 0/{highest} mask: {int(values.num_px[highest])} px hold {highest}"
    if values.of_classes == [0, 1]:
        fixed = (values.pixels != 0).astype(np.uint8)
        return values.fixed_fault("mask-binary", what, "Save 1 in its place, as the class table says", fixed)
    fix = f"The class table's values are {shown(values.of_classes, 40)}: give the one that {highest} stands for"
    return values.fault("mask-binary", what, fix)


def _zero_and_one(values: Values) -> Diagnosis | None:
    if values.unknown != [1] or not {*values.present} <= {0, 1} or values.of_classes != [0, BYTE]:
        return None
    what = "is a 0/1 mask, and the class table's values are 0 and 255"
    fixed = np.where(values.pixels == 1, BYTE, 0).astype(np.uint8)
    return values.fixed_fault("mask-binary", what, "Save 255 in place of 1, or give the classes 0 and 1", fixed)


def _next_to_the_table(values: Values) -> Diagnosis | None:
    """Finds a single unknown value next to those of the classes.

    One mask does not tell what it means: a void value that nobody stated, a further class, or a table that begins at
    another value. Changing masks would destroy labels in two of the three cases, so it is not advised.
    """
    is_consecutive = all(b - a == 1 for a, b in pairwise(values.of_classes))
    if values.is_lossy or len(values.of_classes) < 2 or not is_consecutive:
        return None
    low, high = values.of_classes[0], values.of_classes[-1]
    if values.unknown == [high + 1]:
        begins_at, is_shifted = low + 1, low not in values.present
    elif low > 0 and values.unknown == [low - 1]:
        begins_at, is_shifted = low - 1, True
    else:
        return None
    (value,) = values.unknown
    void = sorted({value, *(known for known, index in values.indices.items() if index == IGNORE_INDEX)})
    what = f"holds {shown(values.present)}, the class table's values are {low}..{high}: {value} is not one of them"
    fix = f"If {value} is unlabelled, add it to the void values ({', '.join(map(str, void))}); if it is a class, add it"
    if is_shifted:
        fix += f". If no mask at all holds {low if value > high else high}, the table may have to begin at {begins_at}"
    return values.fault("mask-values", what, fix)


def _spread_for_viewing(values: Values) -> Diagnosis | None:
    """Finds class indices that were multiplied to be seen: 0, 85, 170, 255, or rounded 0, 127, 255."""
    positive = np.array([value for value in values.present if value > 0])
    if len(positive) < 2 or len(values.of_classes) < 2:
        return None
    steps = [float(np.gcd.reduce(positive))]
    steps += [BYTE / (num_classes - 1) for num_classes in range(3, len(values.of_classes) + 1)]
    for step in steps:
        meant = np.rint(positive / step).astype(int)
        is_exact = (np.abs(positive - meant * step) < 1).all() and len(np.unique(meant)) == len(positive)
        if step >= 2 and is_exact and {0, *map(int, meant)} <= {*values.of_classes} and meant.max() < BYTE:
            what = f"holds class indices multiplied by {step:g}, to be seen in a viewer: {shown(values.present)}"
            return values.fault("mask-values", what, f"Divide its values by {step:g}")
    return None


def palette_greys() -> set[int]:
    """Gives the greys that the first colours of Pascal VOC's palette become when a palette mask is read as grey.

    Source: the VOC development kit's colour map: bit b of the index's three lowest bits goes to bit 7 of R, G, B, the
    next three to bit 6, and so on; grey by ITU-R BT.601.
    """
    colors = np.zeros((NUM_PALETTE_COLORS, 1, 3), np.uint8)
    for index in range(NUM_PALETTE_COLORS):
        for bit in range(8):
            colors[index, 0, bit % 3] |= (index >> bit & 1) << 7 - bit // 3
    return {int(grey) for grey in cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY).ravel()}


def _greys_of_a_palette(values: Values) -> Diagnosis | None:
    positive = {value for value in values.present if value > 0}
    greys = palette_greys()
    # Pillow and OpenCV round differently; 220 is the grey of VOC's void border.
    near = {grey + shift for grey in greys if grey for shift in (-1, 0, 1)} | {219, 220, 221}
    if len(positive & near) < 3 or positive - near:
        return None
    what = f"holds the greys of a palette's colours: {shown(values.present)}"
    fix = "The palette mask was converted to grey; export it again and keep the palette's indices"
    return values.fault("mask-mode", what, fix)


def _photograph_in_grey(values: Values) -> Diagnosis | None:
    if max(values.present) > BYTE or len(values.present) < MIN_VALUES_OF_PHOTO:
        return None
    if is_along_edges(values.pixels, values.is_wrong) or values.num_px[values.unknown].sum() * 2 < values.num_px.sum():
        return None
    what = f"holds {len(values.present)} different values, as a photograph or a depth map does"
    return values.fault("mask-mode", what, "Replace it by the mask; image and mask may be exchanged")


def _values_along_edges(values: Values) -> Diagnosis | None:
    if values.is_lossy or len(values.of_classes) < 2 or is_rippled(values.pixels, values.is_wrong):
        return None
    if not is_along_edges(values.pixels, values.is_wrong):
        return None
    what = f"{RESIZED}: stray values between those of neighbours, along edges: {values.shown_unknown}"
    return values.fault("mask-blended", what, EXPORT_AGAIN)


def _values_of_compression(values: Values) -> Diagnosis | None:
    if not values.is_lossy:
        gaps = np.diff(np.array(sorted(values.indices)))
        distances = [min(abs(value - known) for known in values.indices) for value in values.unknown]
        is_faint = gaps.min(initial=MAX_VALUE) >= MIN_WIDE_GAP and max(distances) <= MAX_FAINT_UNITS
        if len(values.unknown) < MIN_VALUES_OF_JPEG and not is_faint:
            return None
        if not is_near_edges(values.pixels, values.is_wrong):
            return None
    what = f"{COMPRESSED}: stray values around edges: {values.shown_unknown}"
    return values.fault("mask-blended", what, EXPORT_LOSSLESS)
