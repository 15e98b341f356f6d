"""Reads spoilt files as preprocess does, in a process of its own: `python fuzzing.py FIRST NUM FOLDER`.

Each file follows from its number alone. Prints what became of them, as JSON.
"""

import io
import json
import resource
import signal
import struct
import sys
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.classes import IGNORE_INDEX
from segpipe.data.images import read_labelled_image, size_of_image
from segpipe.data.inspection.checks import check_sample
from segpipe.data.inspection.fault_picture import mark_fault
from segpipe.data.masks.labels import ColorMask, IndexMask, Label, plain_indices
from segpipe.documents import ImageMapping

HEIGHT, WIDTH, NUM_CLASSES = 48, 64, 6
SECONDS_PER_FILE = 10
MEMORY_BYTES = 3 << 30  # of address space; the libraries alone take half
SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLORS = np.random.default_rng(7).integers(0, 256, (256, 3)).astype(np.uint8)
COLOR_MAP = {(int(r), int(g), int(b)): i for i, (r, g, b) in enumerate(COLORS[:NUM_CLASSES])}

Rng = np.random.Generator
Picture = npt.NDArray[np.uint8]


def draw(rng: Rng) -> tuple[Picture, Picture]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(8):
        y, x = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(4, 20)), int(rng.integers(0, NUM_CLASSES)), -1)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), mask


def encode(pixels: npt.NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def palette(mask: Picture) -> Image.Image:
    picture = Image.fromarray(mask)
    picture.putpalette(COLORS.ravel().tolist())
    return picture


# Each way to store a mask, whether by its values or by its colours.
MASK_FILES: dict[str, tuple[Callable[[Picture], bytes], bool]] = {
    "png": (lambda mask: encode(mask, "png"), False),
    "png 16 bit": (lambda mask: encode(mask.astype(np.uint16), "png"), False),
    "png palette": (lambda mask: encode(palette(mask), "png"), False),
    "png colours": (lambda mask: encode(COLORS[mask], "png"), True),
    "png palette colours": (lambda mask: encode(palette(mask), "png"), True),
    "tiff": (lambda mask: encode(mask, "tiff"), False),
    "tiff lzw": (lambda mask: encode(mask, "tiff", compression="tiff_lzw"), False),
    "tiff deflate": (lambda mask: encode(mask, "tiff", compression="tiff_adobe_deflate"), False),
    "bmp": (lambda mask: encode(mask, "bmp"), False),
    "gif": (lambda mask: encode(palette(mask), "gif", optimize=False), False),
    "ppm": (lambda mask: encode(mask, "ppm"), False),
    "webp": (lambda mask: encode(COLORS[mask], "webp", lossless=True), True),
}
IMAGE_FILES: dict[str, Callable[[Picture], bytes]] = {
    "jpeg": lambda image: encode(image, "jpeg", quality=90),
    "jpeg progressive": lambda image: encode(image, "jpeg", progressive=True),
    "png": lambda image: encode(image, "png"),
    "webp": lambda image: encode(image, "webp"),
    "tiff jpeg": lambda image: encode(image, "tiff", compression="jpeg"),
    "bmp": lambda image: encode(image, "bmp"),
    "avif": lambda image: encode(image, "avif"),
    "jpeg 2000": lambda image: encode(image, "jpeg2000"),
    "png 16 bits": lambda image: cv2.imencode(".png", image.astype(np.uint16) * 16)[1].tobytes(),
    "tiff 16 bits": lambda image: cv2.imencode(".tif", image.astype(np.uint16) * 16)[1].tobytes(),
    "tiff fractions": lambda image: cv2.imencode(".tif", image.astype(np.float32))[1].tobytes(),
}


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def truncate(content: bytes, rng: Rng) -> bytes:
    return content[: rng.integers(0, len(content))]


def flip_bits(content: bytes, rng: Rng) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        spoilt[rng.integers(0, len(spoilt))] ^= 1 << int(rng.integers(0, 8))
    return bytes(spoilt)


def replace_bytes(content: bytes, rng: Rng) -> bytes:
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 64))
    return content[:start] + rng.bytes(length) + content[start + length :]


def blank_part(content: bytes, rng: Rng) -> bytes:
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 512))
    return (content[:start] + bytes(length) + content[start + length :])[: len(content)]


def cut_out_part(content: bytes, rng: Rng) -> bytes:
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 200))
    return content[:start] + content[start + length :]


def repeat_part(content: bytes, rng: Rng) -> bytes:
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 200))
    return content[: start + length] + content[start:]


def spoil_beginning(content: bytes, rng: Rng) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        spoilt[rng.integers(0, min(64, len(spoilt)))] = int(rng.integers(0, 256))
    return bytes(spoilt)


def lie_about_size(content: bytes, rng: Rng) -> bytes:
    sizes = [0, 1, 47, 64, 500, 20_000, 65_535, 2**31 - 1, 2**32 - 1]
    width, height = (int(rng.choice(sizes)) for _ in range(2))
    if content.startswith(SIGNATURE):  # with the right checksum
        header = struct.pack(">II", width, height) + content[24:29]
        return SIGNATURE + chunk(b"IHDR", header) + content[33:]
    if content.startswith(b"BM"):
        return content[:18] + struct.pack("<II", width, height) + content[26:]
    if content.startswith(b"GIF"):
        return content[:6] + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + content[10:]
    if content.startswith(b"P"):
        return content.replace(f"{WIDTH} {HEIGHT}".encode(), f"{width} {height}".encode(), 1)
    return spoil_beginning(content, rng)


def add_bomb(content: bytes, rng: Rng) -> bytes:
    """Small chunks of text or colour profile that unpack to 200 MB."""
    packed = zlib.compress(bytes(20_000_000), 9)
    bombs = [
        chunk(b"zTXt", b"Comment\0\0" + packed) * 10,
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed) * 10,
        chunk(b"iCCP", b"profile\0\0" + packed),
    ]
    if not content.startswith(SIGNATURE):
        return content + packed
    return content[:33] + bombs[rng.integers(0, len(bombs))] + content[33:]


def claim_another_format(content: bytes, rng: Rng) -> bytes:
    picture = Image.new("RGB", (16, 16), (1, 2, 3))
    others = [
        encode(picture, "ico"),
        encode(picture, "eps"),
        encode(picture, "pdf"),
        encode(picture, "tga"),
        encode(picture, "pcx"),
        b"8BPS\0\1" + rng.bytes(200),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n%%EndComments\n{} loop\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='48'/>",
    ]
    return others[rng.integers(0, len(others))]


def make_random(content: bytes, rng: Rng) -> bytes:
    beginnings = [
        b"",
        SIGNATURE,
        b"\xff\xd8\xff\xe0",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"BM",
        b"GIF89a",
        b"RIFF",
    ]
    return beginnings[rng.integers(0, len(beginnings))] + rng.bytes(int(rng.integers(0, 2000)))


SPOILERS = (
    truncate, flip_bits, replace_bytes, blank_part, cut_out_part, repeat_part, spoil_beginning, lie_about_size,
    add_bomb, claim_another_format, make_random,
)  # fmt: skip


def read_spoilt(number: int, folder: Path) -> tuple[str, str]:
    """Reads one spoilt file next to a sound one.

    Returns:
        What was spoilt, and what became of it.
    """
    rng = np.random.default_rng(number)
    image, mask = draw(rng)
    is_mask = number % 3 > 0
    names = list(MASK_FILES if is_mask else IMAGE_FILES)
    name, spoil = names[rng.integers(0, len(names))], SPOILERS[rng.integers(0, len(SPOILERS))]
    path = folder / "a.png"
    if not is_mask:
        path.write_bytes(spoil(IMAGE_FILES[name](image), rng))
        size_of_image(path)
        reading = read_labelled_image(path, ImageMapping(range=(0, 4095)), mask.shape)
        faults = [*reading.faults, *check_sample(reading.pixels, mask)]
    else:
        make, is_of_colors = MASK_FILES[name]
        path.write_bytes(spoil(make(mask), rng))
        label: Label = ColorMask(path, COLOR_MAP) if is_of_colors else IndexMask(path, plain_indices(NUM_CLASSES))
        reading = label.read(mask.shape)
        faults = [*reading.faults, *check_sample(image, reading.pixels)]
    for fault in faults:
        mark_fault(image, mask, fault)
    if reading.pixels is None:
        assert faults
    if faults:
        return name, "refused"
    if not is_mask:
        return name, "image read"
    assert reading.pixels is not None
    assert reading.pixels.max() < NUM_CLASSES or (reading.pixels[reading.pixels >= NUM_CLASSES] == IGNORE_INDEX).all()
    return name, "same" if np.array_equal(reading.pixels, mask) else f"WRONG by {spoil.__name__}"


def stop(signal_number: int, frame: object) -> None:
    raise TimeoutError("a file took too long")


def main() -> None:
    first, num, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("error")
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, stop)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    crashes: list[str] = []
    for number in range(first, first + num):
        signal.alarm(SECONDS_PER_FILE)
        try:
            name, outcome = read_spoilt(number, folder)
            if outcome.startswith("WRONG"):
                wrong[f"{name}: {outcome}"] += 1
            outcomes[outcome.split()[0]] += 1
        except Exception:
            crashes.append(f"{number}: {traceback.format_exc(limit=-4)}")
        signal.alarm(0)
    grown_bytes = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps({"outcomes": outcomes, "wrong": wrong, "crashes": crashes, "grown_bytes": grown_bytes}))


if __name__ == "__main__":
    main()
