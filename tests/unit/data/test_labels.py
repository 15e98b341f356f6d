"""Masks from files: what their values and colours become."""

from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segpipe.classes import IGNORE_INDEX
from segpipe.data.labels import ColorMask, IndexMask, Label, plain_indices

INDICES = plain_indices(3, [11, 255])
VALUES = np.array([[0, 1], [2, 11]], np.uint8)
EXPECTED = [[0, 1], [2, 255]]
COLOR_MAP = {(0, 0, 0): IGNORE_INDEX, (128, 0, 0): 0, (0, 128, 0): 1, (128, 128, 0): 2}


def read(label: Label) -> list[list[int]]:
    reading = label.read((0, 0))
    assert reading.faults == ()
    assert reading.pixels is not None
    assert reading.pixels.dtype == np.uint8
    return reading.pixels.tolist()


def test_plain_indices() -> None:
    assert plain_indices(2) == {0: 0, 1: 1, 255: 255}
    assert plain_indices(2, [7]) == {0: 0, 1: 1, 7: 255}


def test_values_become_indices_and_void(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "a.png")
    assert read(IndexMask(tmp_path / "a.png", INDICES)) == EXPECTED


def test_a_palette_mask_is_read_as_indices_not_as_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(VALUES)
    picture.putpalette([200, 100, 50] * 256)
    picture.save(tmp_path / "a.png")
    assert read(IndexMask(tmp_path / "a.png", INDICES)) == EXPECTED


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_mask_is_read_by_its_values(tmp_path: Path, suffix: str) -> None:
    # 257 is 1 in its lower byte: cutting it off would go unnoticed.
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.array([[0, 1], [2, 257]], np.uint16))
    assert read(IndexMask(tmp_path / f"a.{suffix}", {0: 0, 1: 1, 2: 2, 257: 255})) == EXPECTED


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_mask_of_few_bits_holds_its_indices(tmp_path: Path, bits: int) -> None:
    """Pillow gives grey PNGs of 2 and 4 bits with their values spread over 0..255."""
    values = np.array([[0, 1], [1, 0]], np.uint8)
    rows = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in values]
    raw = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 2, bits, 0, 0, 0, 0)), (b"IDAT", raw), (b"IEND", b"")]
    path = tmp_path / "mask.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )
    assert read(IndexMask(path, plain_indices(2))) == values.tolist()


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_colors_become_indices_and_void(tmp_path: Path, mode: str) -> None:
    rgb = np.array([[[128, 0, 0], [0, 128, 0]], [[128, 128, 0], [0, 0, 0]]], np.uint8)
    picture = Image.fromarray(rgb)
    (picture.quantize(4) if mode == "P" else picture.convert(mode)).save(tmp_path / "a.png")
    assert read(ColorMask(tmp_path / "a.png", COLOR_MAP)) == EXPECTED


@pytest.mark.parametrize("num_colors", [1, 32, 255])
def test_the_table_of_colors_finds_what_a_dictionary_finds(tmp_path: Path, num_colors: int) -> None:
    rng = np.random.default_rng(num_colors)
    colors = rng.permutation(1 << 24)[:num_colors]
    known = {(int(c >> 16), int(c >> 8 & 255), int(c & 255)): i for i, c in enumerate(colors)}
    rgb = np.array(list(known), np.uint8)[rng.integers(0, num_colors, (20, 30))]
    Image.fromarray(rgb).save(tmp_path / "a.png")
    expected = [[known[tuple(pixel)] for pixel in row] for row in rgb.tolist()]
    assert read(ColorMask(tmp_path / "a.png", known)) == expected
    # One channel off, each value known in its channel or not: never taken for another colour.
    for channel in range(3):
        wrong = rgb.copy()
        wrong[3, 4, channel] ^= 1
        if tuple(wrong[3, 4].tolist()) in known:
            continue
        Image.fromarray(wrong).save(tmp_path / "b.png")
        reading = ColorMask(tmp_path / "b.png", known).read((0, 0))
        assert reading.pixels is None
        assert reading.faults[0].pixels is not None
        assert np.argwhere(reading.faults[0].pixels).tolist() == [[3, 4]]


def test_every_value_of_a_channel_may_be_known(tmp_path: Path) -> None:
    known = {(red, 0, red // 2): red % 200 for red in range(256)}
    rgb = np.array([list(known)], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    assert read(ColorMask(tmp_path / "a.png", known)) == [[red % 200 for red in range(256)]]


def test_a_truncated_mask_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    for label in (IndexMask(path, INDICES), ColorMask(path, COLOR_MAP)):
        reading = label.read((0, 0))
        assert reading.pixels is None
        assert [fault.kind for fault in reading.faults] == ["image-damaged"]


def test_a_label_can_be_sent_and_its_key_is_its_meaning(tmp_path: Path) -> None:
    index, color = IndexMask(tmp_path / "a.png", INDICES), ColorMask(tmp_path / "a.png", COLOR_MAP)
    for label in (index, color):
        assert pickle.loads(pickle.dumps(label)) == label
        assert label.files == (tmp_path / "a.png",)
    assert index.key == IndexMask(tmp_path / "b.png", dict(reversed(INDICES.items()))).key
    assert index.key != IndexMask(tmp_path / "a.png", {**INDICES, 3: 2}).key
    assert color.key != ColorMask(tmp_path / "a.png", {**COLOR_MAP, (1, 2, 3): 2}).key
