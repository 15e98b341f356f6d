"""Masks from files: what their values and colours become."""

from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.labels import ColorMask, IndexMask, Label, plain_indices

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


@pytest.mark.parametrize(("white", "kind"), [(255, None), (65535, None), (2, "mask-depth"), (1000, "mask-depth")])
def test_a_pgm_whose_values_are_spread_is_no_mask(tmp_path: Path, white: int, kind: str | None) -> None:
    """Pillow would give 0, 128, 255 for 0, 1, 2 of 2."""
    values = np.array([[0, 1, 2]], "u1" if white < 256 else ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 %d\n" % white + values.tobytes())
    reading = IndexMask(tmp_path / "a.pgm", plain_indices(3)).read((1, 3))
    assert [fault.kind for fault in reading.faults] == ([] if kind is None else [kind])
    assert kind is not None or np.array_equal(reading.pixels, [[0, 1, 2]])


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


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_turned_tiff_is_refused(tmp_path: Path, compression: str) -> None:
    """Pillow turns it while loading, and deletes the entry."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(VALUES).save(tmp_path / "a.tif", exif=exif, compression=compression)
    reading = IndexMask(tmp_path / "a.tif", INDICES).read((2, 2))
    assert reading.pixels is None
    assert [fault.kind for fault in reading.faults] == ["mask-turned"]


def test_colours_are_counted_without_sorting_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorting the rows of a photograph takes seconds."""
    rgb = np.random.default_rng(0).integers(0, 4, (40, 50, 3)).astype(np.uint8) * 85
    Image.fromarray(rgb).save(tmp_path / "a.png")
    num_colors = len(set(map(tuple, rgb.reshape(-1, 3).tolist())))
    count_unique = np.unique

    def refuse_rows(values: Any, **options: Any) -> Any:
        assert options.get("axis") is None
        return count_unique(values, **options)

    monkeypatch.setattr(np, "unique", refuse_rows)
    (fault,) = IndexMask(tmp_path / "a.png", INDICES).read((40, 50)).faults
    assert fault.what == f"holds colours (mode RGB, {num_colors} different), not class indices"


def save_transparent(path: Path, mode: str, transparency: Any) -> None:
    if mode == "RGB":
        Image.fromarray(np.repeat(VALUES[..., None], 3, axis=2)).save(path, transparency=transparency)
        return
    values = VALUES.astype(np.uint16) if mode == "I;16" else np.minimum(VALUES, 1) * 255 if mode == "1" else VALUES
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette([part for value in range(256) for part in (value, value, value)])
    (picture.convert("1") if mode == "1" else picture).save(path, transparency=transparency)


@pytest.mark.parametrize(
    ("mode", "transparency", "where"),
    [
        ("P", 11, [[1, 1]]),
        ("P", bytes([255, 255, 100]), [[1, 0]]),
        ("P", 7, []),
        ("P", bytes([255, 255, 255, 100]), []),
        ("L", 11, [[1, 1]]),
        ("L", 7, []),
        ("I;16", 2, [[1, 0]]),
        ("1", 0, [[0, 0]]),
        ("RGB", (1, 1, 1), [[0, 1]]),
        ("RGB", (1, 1, 2), []),
    ],
)
def test_values_that_are_transparent_are_found(
    tmp_path: Path, mode: str, transparency: Any, where: list[list[int]]
) -> None:
    path = tmp_path / "a.png"
    save_transparent(path, mode, transparency)
    reading = IndexMask(path, plain_indices(2) if mode == "1" else INDICES).read((2, 2))
    found = [fault for fault in reading.faults if fault.kind == "mask-alpha"]
    assert [np.argwhere(fault.pixels).tolist() for fault in found if fault.pixels is not None] == (
        [where] if where else []
    )
    assert (reading.pixels is None) == bool(where)


@pytest.mark.parametrize(("transparent", "is_seen"), [(1, True), (3, False)])
def test_a_transparent_value_of_2_bits_is_found(tmp_path: Path, transparent: int, is_seen: bool) -> None:
    """Pillow spreads the values, but not the one that is transparent."""
    data = {
        b"IHDR": struct.pack(">IIBBBBB", 3, 1, 2, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", transparent),
        b"IDAT": zlib.compress(b"\0" + bytes([0b00011000])),
        b"IEND": b"",
    }
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in data.items()]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    reading = IndexMask(tmp_path / "a.png", plain_indices(3)).read((1, 3))
    assert [fault.kind for fault in reading.faults] == (["mask-alpha"] if is_seen else [])
    if not is_seen:
        assert reading.pixels is not None and reading.pixels.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("mode", "transparency", "is_seen"),
    [
        ("P", 11, True),
        ("P", bytes([255, 255, 100]), True),
        ("P", bytes([255] * 3 + [9]), False),
        ("RGB", (2, 2, 2), True),
    ],
)
def test_colours_that_are_transparent_are_found(tmp_path: Path, mode: str, transparency: Any, is_seen: bool) -> None:
    path = tmp_path / "a.png"
    save_transparent(path, mode, transparency)
    reading = ColorMask(path, {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 2, (11, 11, 11): IGNORE_INDEX}).read((2, 2))
    assert [fault.kind for fault in reading.faults] == (["mask-alpha"] if is_seen else [])
    if not is_seen:
        assert reading.pixels is not None and reading.pixels.tolist() == EXPECTED


def test_a_text_called_transparency_makes_nothing_transparent(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("transparency", "none")
    Image.fromarray(VALUES).save(tmp_path / "a.png", pnginfo=texts)
    assert read(IndexMask(tmp_path / "a.png", INDICES)) == EXPECTED
