"""Masks of any class table: known values become their classes, and an unknown one is always reported."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import assume
from hypothesis import strategies as st
from PIL import Image
from properties import holds_for_all

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.labels import ColorMask, IndexMask, Label
from segpipe.faults import Reading

CLASSES = st.one_of(st.integers(0, 9), st.just(IGNORE_INDEX))
BYTES, WORDS = st.integers(0, 255), st.integers(0, 65535)
COLORS = st.tuples(BYTES, BYTES, BYTES)
SIZES, SEEDS = st.tuples(st.integers(2, 9), st.integers(2, 9)), st.integers(0, 1000)


def read(picture: npt.NDArray[np.generic], label: type[IndexMask] | type[ColorMask], table: dict) -> Reading:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        Image.fromarray(picture).save(path)
        mask: Label = label(path, table)
        return mask.read(picture.shape[:2])


def draw(known: list, size_hw: tuple[int, int], seed: int) -> list[list]:
    """Known values at random places."""
    places = np.random.default_rng(seed).integers(len(known), size=size_hw)
    return [[known[place] for place in row] for row in places]


def expected_of(drawn: list[list], table: dict) -> list[list[int]]:
    return [[table[value] for value in row] for row in drawn]


@holds_for_all(60, table=st.dictionaries(BYTES, CLASSES, min_size=1, max_size=12), size_hw=SIZES, seed=SEEDS)
def test_known_values_become_their_classes(table: dict[int, int], size_hw: tuple[int, int], seed: int) -> None:
    drawn = draw(sorted(table), size_hw, seed)
    reading = read(np.array(drawn, np.uint8), IndexMask, table)
    assert reading.pixels is not None, reading.faults
    assert reading.pixels.tolist() == expected_of(drawn, table)


@holds_for_all(30, table=st.dictionaries(WORDS, CLASSES, min_size=1, max_size=12), size_hw=SIZES, seed=SEEDS)
def test_known_values_of_16_bits_become_their_classes(
    table: dict[int, int], size_hw: tuple[int, int], seed: int
) -> None:
    drawn = draw(sorted(table), size_hw, seed)
    reading = read(np.array(drawn, np.uint16), IndexMask, table)
    assert reading.pixels is not None, reading.faults
    assert reading.pixels.tolist() == expected_of(drawn, table)


@holds_for_all(
    80,
    table=st.dictionaries(BYTES, CLASSES, min_size=1, max_size=12),
    size_hw=SIZES,
    seed=SEEDS,
    unknown=BYTES,
    place=st.integers(0, 3),
)
def test_an_unknown_value_is_reported(
    table: dict[int, int], size_hw: tuple[int, int], seed: int, unknown: int, place: int
) -> None:
    assume(unknown not in table)
    drawn = draw(sorted(table), size_hw, seed)
    drawn[place // 2][place % 2] = unknown
    reading = read(np.array(drawn, np.uint8), IndexMask, table)
    assert reading.faults
    # What is read in spite of it is a fix with one meaning, and is said to be one.
    assert reading.pixels is None or reading.faults[0].is_fixed


@holds_for_all(60, table=st.dictionaries(COLORS, CLASSES, min_size=1, max_size=12), size_hw=SIZES, seed=SEEDS)
def test_known_colours_become_their_classes(
    table: dict[tuple[int, int, int], int], size_hw: tuple[int, int], seed: int
) -> None:
    drawn = draw(sorted(table), size_hw, seed)
    reading = read(np.array(drawn, np.uint8), ColorMask, table)
    assert reading.faults == ()
    assert reading.pixels is not None
    assert reading.pixels.tolist() == expected_of(drawn, table)


@holds_for_all(
    60,
    table=st.dictionaries(COLORS, CLASSES, min_size=1, max_size=12),
    size_hw=SIZES,
    seed=SEEDS,
    unknown=COLORS,
    place=st.integers(0, 3),
)
def test_an_unknown_colour_is_reported(
    table: dict[tuple[int, int, int], int],
    size_hw: tuple[int, int],
    seed: int,
    unknown: tuple[int, int, int],
    place: int,
) -> None:
    assume(unknown not in table)
    drawn = draw(sorted(table), size_hw, seed)
    drawn[place // 2][place % 2] = unknown
    reading = read(np.array(drawn, np.uint8), ColorMask, table)
    assert reading.pixels is None
    assert reading.faults
