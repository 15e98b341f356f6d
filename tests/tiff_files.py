"""Writes TIFF files by hand, as TIFF 6.0 says: any bands, strips or tiles, deflate, predictors, byte orders."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def write_tiff(
    path: Path,
    values: np.ndarray,
    *,
    order: str = "<",
    is_big: bool = False,
    tile_px: int | None = None,
    is_separate: bool = False,
    is_packed: bool = False,
    predictor: int = 1,
    photometric: int = 1,
    extra: tuple[int, ...] = (),
    orientation: int = 1,
    compression: int | None = None,
) -> Path:
    """Writes (height, width, bands) as one picture."""
    height, width, num_bands = values.shape
    stored = values.astype(values.dtype.newbyteorder(order))
    planes = [stored[..., [band]] for band in range(num_bands)] if is_separate else [stored]
    parts = []
    for plane in planes:
        if tile_px is None:
            pieces = [plane[top : top + 5] for top in range(0, height, 5)]
        else:
            padded = np.pad(plane, ((0, -height % tile_px), (0, -width % tile_px), (0, 0)))
            tops, lefts = range(0, padded.shape[0], tile_px), range(0, padded.shape[1], tile_px)
            pieces = [padded[top : top + tile_px, left : left + tile_px] for top in tops for left in lefts]
        parts += [_pack(piece, predictor, order, is_packed) for piece in pieces]
    word, header_bytes = ("Q", 16) if is_big else ("I", 8)
    offsets = [header_bytes + sum(map(len, parts[:i])) for i in range(len(parts))]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {
        256: [width],
        257: [height],
        258: [8 * values.dtype.itemsize] * num_bands,
        259: [compression or (8 if is_packed else 1)],
        262: [photometric],
        274: [orientation],
        277: [num_bands],
        284: [2 if is_separate else 1],
        317: [predictor],
        339: [kind] * num_bands,
    }
    tags |= {338: list(extra)} if extra else {}
    counts = [len(part) for part in parts]
    tags |= {273: offsets, 278: [5], 279: counts} if tile_px is None else {322: [tile_px], 323: [tile_px]}
    tags |= {} if tile_px is None else {324: offsets, 325: counts}
    start = header_bytes + sum(counts)
    head = struct.pack(order + "2sHHHQ", b"II" if order == "<" else b"MM", 43, 8, 0, start)
    if not is_big:
        head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    path.write_bytes(head + b"".join(parts) + _directory(tags, order, word, start))
    return path


def _pack(piece: np.ndarray, predictor: int, order: str, is_packed: bool) -> bytes:
    height, width, num_bands = piece.shape
    if predictor == 2:
        whole = piece.view(piece.dtype.str.replace("f", "u").replace("i", "u"))
        native = whole.astype(whole.dtype.newbyteorder("="))
        native[:, 1:] = native[:, 1:] - native[:, :-1].copy()
        piece = native.astype(whole.dtype)
    if predictor == 3:
        highest_first = piece.astype(piece.dtype.newbyteorder(">")).tobytes()
        rows = np.frombuffer(highest_first, np.uint8).reshape(height, width * num_bands, piece.dtype.itemsize)
        planes = rows.transpose(0, 2, 1).reshape(height, -1).copy()
        planes[:, num_bands:] = planes[:, num_bands:] - planes[:, :-num_bands].copy()
        piece = planes
    return zlib.compress(piece.tobytes()) if is_packed else piece.tobytes()


def _directory(tags: dict[int, list[int]], order: str, word: str, start: int) -> bytes:
    size = struct.calcsize(word)
    entries, arrays = [], b""
    after = start + (8 if word == "Q" else 2) + (20 if word == "Q" else 12) * len(tags) + size
    for tag, values in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{word}", *values)
        if len(data) > size:
            data, arrays = struct.pack(order + word, after + len(arrays)), arrays + data
        entries.append(struct.pack(f"{order}HH{word}", tag, 16 if word == "Q" else 4, len(values)) + data)
    return struct.pack(order + ("Q" if word == "Q" else "H"), len(tags)) + b"".join(entries) + bytes(size) + arrays
