"""Reads the bands of a TIFF file: any number of them, 8 to 64 bits each, whole numbers or fractions.

Pillow gives 8-bit colours and single deep bands; it has no type for the others. But it unpacks every compression. So
the file is described to it as one grey picture that is as many bytes wide as a row has: it unpacks the bytes, and here
they become numbers again.
"""

import contextlib
import io
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

ByteOrder = Literal["<", ">"]
GeoValue = tuple[float, ...] | str
_Entry = tuple[int, int, int, bytes]  # of a directory: tag, type, count, and the values or their place

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BIG_TIFF = 43
MAX_PAGES, MAX_ENTRIES, MAX_COUNT, MAX_BANDS, MAX_GEO_COUNT = 10_000, 4096, 1 << 26, 1000, 1 << 16
LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of whole numbers

# Tags, TIFF 6.0 and the supplement for predictor 3.
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, NUM_BANDS, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, SAMPLE_FORMAT = 317, 322, 323, 324, 325, 338, 339

# Of GeoTIFF: type and letter of their values.
DOUBLES, SHORTS, TEXT = (12, "d"), (3, "H"), (2, "s")
GEO_TAGS = {33550: DOUBLES, 33922: DOUBLES, 34264: DOUBLES, 34735: SHORTS, 34736: DOUBLES, 34737: TEXT}
GEO_TYPES = {tag: type_number for tag, (type_number, _) in GEO_TAGS.items()}

REDUCED_OR_MASK = 1 | 4  # a page that is a smaller copy of the first one, or its transparency
SEPARATE = 2  # each band has its own strips
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
PREMULTIPLIED, ALPHA = 1, 2
# Of other compressions (JPEG, WebP, LERC) the unpacked bytes are not the values.
LOSSLESS = {1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate", 34925: "LZMA", 50000: "Zstandard"}
DTYPES = {(1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (2, 8): "i1", (2, 16): "i2", (2, 32): "i4", (3, 16): "f2"}
DTYPES |= {(3, 32): "f4", (3, 64): "f8"}


@dataclass(frozen=True)
class TiffLayout:
    """What the header of a TIFF says of its first picture.

    Attributes:
        order: '<' or '>', of the bytes.
        is_big: whether offsets have 64 bits.
        tags: values of the tags of whole numbers, by tag.
        num_pages: pictures in the file, without smaller copies.
        geo_tags: values of the tags that say where the picture lies on the earth; empty where a tag is damaged.
    """

    order: ByteOrder
    is_big: bool
    tags: dict[int, tuple[int, ...]]
    num_pages: int
    geo_tags: Mapping[int, GeoValue] = field(default_factory=dict)

    def first(self, tag: int, default: int) -> int:
        """Gives the first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in px as stored."""
        return self.first(HEIGHT, 0), self.first(WIDTH, 0)

    @property
    def num_bands(self) -> int:
        """How many values each pixel has."""
        return self.first(NUM_BANDS, 1)

    @property
    def orientation(self) -> int:
        """How the picture is to be turned, 1 (not at all) to 8."""
        found = self.first(ORIENTATION, 1)
        return found if found in range(1, 9) else 1

    @property
    def extra(self) -> tuple[int, ...]:
        """The meaning of the bands after the colours; 0 for not stated."""
        num_extra = max(0, self.num_bands - self.num_colors)
        return (self.tags.get(EXTRA, ()) + (0,) * num_extra)[:num_extra]

    @property
    def num_colors(self) -> int:
        """How many bands are colours."""
        return {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, 3: 1, 5: 4, 6: 3, 8: 3}.get(self.first(PHOTOMETRIC, 1), 1)

    @property
    def bits(self) -> int:
        """Bits of a value; 0 where the bands differ."""
        found = set(self.tags.get(BITS, (1,)))
        return found.pop() if len(found) == 1 else 0

    @property
    def is_plain(self) -> bool:
        """Whether Pillow reads all of it: 8-bit colours with or without alpha, or grey of 12 bits."""
        is_unsigned = set(self.tags.get(SAMPLE_FORMAT, (1,))) <= {1, 4}
        is_shallow = 0 < self.bits <= 8 or (self.bits == 12 and self.num_bands == 1)
        return is_shallow and is_unsigned and self.extra in {(), (PREMULTIPLIED,), (ALPHA,)}

    @property
    def bytes_per_px(self) -> int:
        """Bytes of a pixel's values."""
        return max(1, self.num_bands * max(self.tags.get(BITS, (1,))) // 8)


class TiffError(ValueError):
    """A TIFF of a kind that is not read.

    Args:
        what: the reason; continues a sentence that begins with the file's name.
    """


def read_layout(path: Path) -> TiffLayout | None:
    """Reads a file's header; None if it is no TIFF.

    Raises:
        ValueError, struct.error, OSError: the header is damaged.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic not in MAGIC:
            return None
        order: ByteOrder = "<" if magic[:1] == b"I" else ">"
        is_big = BIG_TIFF in magic[2:]
        if is_big:
            file.read(4)
        (start,) = struct.unpack(order + ("Q" if is_big else "I"), file.read(8 if is_big else 4))
        pages, geo_tags = _read_pages(file, order, is_big, start)
    first = pages[0]
    if not (
        first.get(WIDTH, (0,))[0] and first.get(HEIGHT, (0,))[0] and 0 < first.get(NUM_BANDS, (1,))[0] <= MAX_BANDS
    ):
        raise ValueError("its header names no picture")
    num_pages = sum(not page.get(SUBFILE, (0,))[0] & REDUCED_OR_MASK for page in pages)
    return TiffLayout(order, is_big, first, max(1, num_pages), geo_tags)


def _read_pages(
    file: BinaryIO, order: str, is_big: bool, start: int
) -> tuple[list[dict[int, tuple[int, ...]]], dict[int, GeoValue]]:
    """Follows the chain of directories, and gives the tags of GeoTIFF of the first."""
    pages: list[dict[int, tuple[int, ...]]] = []
    geo_tags: dict[int, GeoValue] = {}
    seen = set()
    while start and start not in seen and len(pages) < MAX_PAGES:
        seen.add(start)
        entries, following = _read_directory(file, order, is_big, start)
        pages.append(_read_numbers(file, order, is_big, entries))
        geo_tags = geo_tags if len(pages) > 1 else _read_geo_tags(file, order, is_big, entries)
        start = following
    if not pages:
        raise ValueError("its header names no picture")
    return pages, geo_tags


def _read_directory(file: BinaryIO, order: str, is_big: bool, start: int) -> tuple[list[_Entry], int]:
    """Gives the entries, and the place of the next directory."""
    word, count_letter = ("Q", "Q") if is_big else ("I", "H")
    entry = struct.Struct(f"{order}HH{word}{struct.calcsize(word)}s")
    file.seek(start)
    (num_entries,) = struct.unpack(order + count_letter, file.read(struct.calcsize(order + count_letter)))
    if num_entries > MAX_ENTRIES:
        raise ValueError("its header is damaged")
    entries = [entry.unpack(file.read(entry.size)) for _ in range(num_entries)]
    (following,) = struct.unpack(order + word, file.read(struct.calcsize(word)).ljust(struct.calcsize(word), b"\0"))
    return entries, following


def _read_numbers(file: BinaryIO, order: str, is_big: bool, entries: Iterable[_Entry]) -> dict[int, tuple[int, ...]]:
    """Reads the tags of whole numbers."""
    tags = {}
    for entry in entries:
        tag, type_number, count, _ = entry
        letter = LETTERS.get(type_number)
        if letter is not None and tag <= SAMPLE_FORMAT and 0 < count < MAX_COUNT:
            tags[tag] = struct.unpack(f"{order}{count}{letter}", _content_of(file, order, is_big, entry, letter))
    return tags


def _read_geo_tags(file: BinaryIO, order: str, is_big: bool, entries: Iterable[_Entry]) -> dict[int, GeoValue]:
    """Reads the tags of GeoTIFF; pixels do not depend on them, so one that is damaged is empty."""
    tags: dict[int, GeoValue] = {}
    for entry in entries:
        tag, type_number, count, _ = entry
        if tag not in GEO_TAGS:
            continue
        geo_type, letter = GEO_TAGS[tag]
        tags[tag] = ()
        if type_number == geo_type and 0 < count < MAX_GEO_COUNT:
            with contextlib.suppress(struct.error, OverflowError, ValueError, OSError):
                content = _content_of(file, order, is_big, entry, letter)
                values = struct.unpack(f"{order}{count}{letter}", content)
                tags[tag] = values[0].rstrip(b"\0").decode("latin-1") if letter == "s" else values
    return tags


def _content_of(file: BinaryIO, order: str, is_big: bool, entry: _Entry, letter: str) -> bytes:
    """Gives the bytes of an entry's values: they lie in the entry, or it says where."""
    _, _, count, data = entry
    num_bytes = count * struct.calcsize(order + letter)
    if num_bytes > len(data):
        file.seek(struct.unpack(order + ("Q" if is_big else "I"), data)[0])
        data = file.read(num_bytes)
    return data[:num_bytes]


def read_values(path: Path, layout: TiffLayout) -> npt.NDArray[Any]:
    """Reads all bands.

    Returns:
        (height, width, num_bands), the file's type of numbers in this machine's order of bytes.

    Raises:
        TiffError: it is of a kind that is not read.
        OSError, ValueError and others of Pillow: it is damaged.
    """
    compression = layout.first(COMPRESSION, 1)
    if compression not in LOSSLESS:
        raise TiffError(f"has {layout.num_bands} bands in a compression that is read for colours only ({compression})")
    dtype = DTYPES.get((layout.first(SAMPLE_FORMAT, 1), layout.bits))
    if dtype is None or layout.first(FILL_ORDER, 1) != 1:
        kind = f"{layout.num_bands} bands of {layout.tags.get(BITS, (1,))} bits, sample format"
        raise TiffError(f"has {kind} {layout.first(SAMPLE_FORMAT, 1)}, which is not read")
    content = path.read_bytes()
    stored = np.dtype(dtype).newbyteorder(layout.order)
    if layout.first(PLANAR, 1) != SEPARATE or layout.num_bands == 1:
        return _decode_rows(content, layout, stored, layout.num_bands, slice(None))
    height, width = layout.size_hw
    values = np.empty((height, width, layout.num_bands), stored.newbyteorder("="))
    num_parts = len(_offsets(layout)) // layout.num_bands
    for band in range(layout.num_bands):
        part = slice(band * num_parts, (band + 1) * num_parts)
        values[..., band] = _decode_rows(content, layout, stored, 1, part)[..., 0]
    return values


def _offsets(layout: TiffLayout) -> tuple[int, ...]:
    return layout.tags[TILE_OFFSETS if TILE_OFFSETS in layout.tags else STRIP_OFFSETS]


def _decode_rows(
    content: bytes, layout: TiffLayout, stored: np.dtype[Any], num_bands: int, part: slice
) -> npt.NDArray[Any]:
    """Unpacks the strips or tiles of `part`, and makes numbers of their bytes."""
    height, width = layout.size_hw
    piece_px = layout.first(TILE_WIDTH, width)  # the predictor begins again with each tile
    padded_px = -(-width // piece_px) * piece_px
    described = _describe_as_bytes(content, layout, padded_px * num_bands * stored.itemsize, num_bands, part)
    with Image.open(io.BytesIO(described), formats=("TIFF",)) as image:
        image.load()
        rows = np.asarray(image)
    predictor = layout.first(PREDICTOR, 1)
    if predictor == 3:
        pieces = rows.reshape(height, -1, piece_px * num_bands * stored.itemsize)
        values = _undo_float_predictor(pieces, num_bands, stored)
    else:
        values = rows.view(stored)
    values = values.reshape(height, -1, piece_px, num_bands).astype(stored.newbyteorder("="), copy=False)
    if predictor == 2:
        unsigned = np.dtype(f"u{stored.itemsize}")
        values = np.cumsum(values.view(unsigned), axis=2, dtype=unsigned).view(values.dtype)
    return values.reshape(height, padded_px, num_bands)[:, :width]


def _undo_float_predictor(pieces: npt.NDArray[np.uint8], num_bands: int, stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """Undoes predictor 3 (Adobe's technical note 3): differences of bytes, the highest bytes of all values first.

    Args:
        pieces: (height, pieces in a row, bytes of a piece).
        num_bands: the distance of the differences in bytes.
        stored: the type of the values.
    """
    height, num_pieces, num_bytes = pieces.shape
    differences = pieces.reshape(height, num_pieces, num_bytes // num_bands, num_bands)
    planes = np.cumsum(differences, axis=2, dtype=np.uint8).reshape(height, num_pieces, stored.itemsize, -1)
    highest_first = np.ascontiguousarray(planes.transpose(0, 1, 3, 2))
    return highest_first.view(stored.newbyteorder(">")).reshape(height, -1)


def _describe_as_bytes(content: bytes, layout: TiffLayout, row_bytes: int, num_bands: int, part: slice) -> bytes:
    """Gives the file with a header that describes its strips or tiles as a grey picture of 8 bits."""
    height, _ = layout.size_hw
    tags: dict[int, tuple[int, ...]] = {
        WIDTH: (row_bytes,),
        HEIGHT: (height,),
        BITS: (8,),
        COMPRESSION: (layout.first(COMPRESSION, 1),),
        PHOTOMETRIC: (BLACK_IS_ZERO,),
        NUM_BANDS: (1,),
    }
    if TILE_OFFSETS in layout.tags:
        bytes_per_px = row_bytes // (-(-layout.size_hw[1] // layout.first(TILE_WIDTH, 1)) * layout.first(TILE_WIDTH, 1))
        tags[TILE_WIDTH] = (layout.first(TILE_WIDTH, 1) * bytes_per_px,)
        tags[TILE_HEIGHT] = layout.tags[TILE_HEIGHT]
        tags[TILE_OFFSETS], tags[TILE_COUNTS] = layout.tags[TILE_OFFSETS][part], layout.tags[TILE_COUNTS][part]
    else:
        tags[ROWS_PER_STRIP] = (min(height, layout.first(ROWS_PER_STRIP, height)),)
        tags[STRIP_OFFSETS], tags[STRIP_COUNTS] = layout.tags[STRIP_OFFSETS][part], layout.tags[STRIP_COUNTS][part]
    return _with_directory(content, layout.is_big, tags)


def _with_directory(content: bytes, is_big: bool, tags: dict[int, tuple[int, ...]]) -> bytes:
    """Appends a directory of tags to a file's content, and begins the file with a header that names it.

    The order of bytes of header and directory need not be that of the values.
    """
    letter, type_number, entry_bytes = ("Q", 16, 20) if is_big else ("I", 4, 12)
    word = struct.calcsize(letter)
    start = -(-len(content) // 16) * 16
    after = start + (8 if is_big else 2) + entry_bytes * len(tags) + word
    entries, arrays = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{letter}", *values)
        if len(values) > 1:
            place = struct.pack("<" + letter, after + len(arrays))
            arrays += packed
            packed = place
        entries += struct.pack(f"<HH{letter}", tag, type_number, len(values)) + packed
    header = struct.pack("<2sHHHQ", b"II", BIG_TIFF, 8, 0, start) if is_big else struct.pack("<2sHI", b"II", 42, start)
    body = content[len(header) :].ljust(start - len(header), b"\0")
    return b"".join([header, body, struct.pack("<Q" if is_big else "<H", len(tags)), entries, bytes(word), arrays])
