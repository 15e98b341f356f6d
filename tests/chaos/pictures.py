"""Small pictures of the kinds that people have, and files that only look like pictures."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
from dicom_files import write_dicom
from PIL import Image
from tiff_files import write_tiff

WIDTH, HEIGHT = 24, 32
QUARTER = 6  # an orientation of EXIF
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))

Outcome = Literal["predicted", "skipped", "left alone"]
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: makes a file of (HEIGHT, WIDTH, 3) uint8 pixels.
        outcome: what `segpipe predict` does with an intact one.
        size_hw: of the upright picture.
    """

    suffix: str
    write: Callable[[Path, Pixels], object]
    outcome: Outcome = "predicted"
    size_hw: tuple[int, int] = (HEIGHT, WIDTH)


def _save(path: Path, pixels: Pixels, mode: str = "RGB", **options: Any) -> None:
    image = Image.fromarray(pixels)
    if mode in {"LA", "RGBA"}:
        image.putalpha(Image.fromarray(pixels[..., 1]))
    if mode == "P":
        image = image.quantize(16)
    image.convert(mode).save(path, **options)


def _save_turned(path: Path, pixels: Pixels) -> None:
    exif = Image.Exif()
    exif[0x0112] = QUARTER
    Image.fromarray(pixels).save(path, exif=exif)


def _save_deep(path: Path, pixels: Pixels, num_bands: int) -> None:
    deep = pixels[..., :num_bands].astype(np.uint16) * 257 - pixels[..., :num_bands] // 2
    assert cv2.imwrite(str(path), deep.squeeze()[..., ::-1] if num_bands == 3 else deep.squeeze())


def _save_interlaced(path: Path, pixels: Pixels) -> None:
    """Writes an RGB PNG in the seven passes of Adam7 (PNG specification, 8.2), which Pillow only reads."""
    parts = (pixels[top::down, left::right] for top, left, down, right in ADAM7)
    raw = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def _save_bands(path: Path, pixels: Pixels, num_bands: int, dtype: str = "u1", **options: Any) -> None:
    bands = np.concatenate([pixels, 255 - pixels], axis=2)[..., :num_bands].astype(dtype)
    values = bands * np.dtype(dtype).type(1 if dtype == "u1" else 200)
    write_tiff(path, values, photometric=2 if num_bands in {3, 4} else 1, **options)


def _save_several(path: Path, pixels: Pixels) -> None:
    Image.fromarray(pixels).save(path, save_all=True, append_images=[Image.fromarray(255 - pixels)])


def _save_array(path: Path, pixels: Pixels, num_bands: int, dtype: str = "u1") -> None:
    np.save(path, (pixels[..., :num_bands].squeeze().astype(dtype) * (1 if dtype == "u1" else 200)).astype(dtype))


def _save_dicom(path: Path, pixels: Pixels) -> None:
    write_dicom(path, pixels[..., 0].astype(np.int16) * 100, RescaleSlope=2, RescaleIntercept=-1024)


def _save_nifti(path: Path, pixels: Pixels) -> None:
    nibabel.save(nibabel.Nifti1Image(pixels[..., 0].T, np.eye(4)), path)


def _write(path: Path, pixels: Pixels, content: bytes) -> None:
    path.write_bytes(content)


def _kinds_of_png() -> dict[str, Kind]:
    return {
        "png": Kind(".png", _save),
        "png grey": Kind(".png", partial(_save, mode="L")),
        "png palette": Kind(".png", partial(_save, mode="P")),
        "png palette transparent": Kind(".png", partial(_save, mode="P", transparency=3)),
        "png rgba": Kind(".png", partial(_save, mode="RGBA")),
        "png la": Kind(".png", partial(_save, mode="LA")),
        "png 1 bit": Kind(".png", partial(_save, mode="1")),
        "png 16 bit grey": Kind(".png", partial(_save_deep, num_bands=1)),
        "png 16 bit rgb": Kind(".png", partial(_save_deep, num_bands=3)),
        "png interlaced": Kind(".png", _save_interlaced),
        "png turned": Kind(".png", _save_turned, size_hw=(WIDTH, HEIGHT)),
    }


def _kinds_of_tiff() -> dict[str, Kind]:
    extra = {"extra": (0,)}
    return {
        "tiff": Kind(".tif", _save),
        "tiff grey": Kind(".tiff", partial(_save, mode="L")),
        "tiff lzw": Kind(".tif", partial(_save, compression="tiff_lzw")),
        "tiff jpeg": Kind(".tif", partial(_save, compression="jpeg")),
        "tiff cmyk": Kind(".tif", partial(_save, mode="CMYK")),
        "tiff tiled": Kind(".TIF", partial(_save_bands, num_bands=3, tile_px=16)),
        "tiff 16 bit": Kind(".tif", partial(_save_bands, num_bands=3, dtype="u2", is_packed=True)),
        "tiff float": Kind(".tif", partial(_save_bands, num_bands=1, dtype="f4")),
        "tiff turned": Kind(".tif", _save_turned, size_hw=(WIDTH, HEIGHT)),
        "tiff 2 bands": Kind(".tif", partial(_save_bands, num_bands=2, **extra), "skipped"),
        "tiff 4 bands": Kind(".tif", partial(_save_bands, num_bands=4, **extra)),
        "tiff 5 bands": Kind(".tif", partial(_save_bands, num_bands=5, extra=(0,) * 4), "skipped"),
        "tiff pages": Kind(".tif", _save_several, "skipped"),
    }


def _kinds_of_others() -> dict[str, Kind]:
    return {
        "jpeg": Kind(".jpg", partial(_save, quality=90)),
        "jpeg progressive": Kind(".JPG", partial(_save, progressive=True)),
        "jpeg cmyk": Kind(".jpeg", partial(_save, mode="CMYK")),
        "jpeg grey": Kind(".jpg", partial(_save, mode="L")),
        "jpeg turned": Kind(".jpg", _save_turned, size_hw=(WIDTH, HEIGHT)),
        "gif": Kind(".gif", partial(_save, mode="P")),
        "gif moving": Kind(".gif", _save_several, "skipped"),
        "bmp": Kind(".bmp", _save),
        "bmp palette": Kind(".bmp", partial(_save, mode="P")),
        "ppm": Kind(".ppm", _save),
        "pgm": Kind(".pgm", partial(_save, mode="L")),
        "pgm 16 bit": Kind(".pgm", partial(_save_deep, num_bands=1)),
        "pbm": Kind(".pbm", partial(_save, mode="1")),
        "webp": Kind(".webp", _save),
        "webp lossless": Kind(".webp", partial(_save, lossless=True)),
        "webp alpha": Kind(".webp", partial(_save, mode="RGBA", lossless=True)),
        "avif": Kind(".avif", _save),
        "jpeg 2000": Kind(".jp2", _save),
        "jpeg 2000 codestream": Kind(".j2k", _save),
        "heic": Kind(".heic", _save),
        "dicom": Kind(".dcm", write_dicom),
        "dicom 16 bit": Kind(".DCM", _save_dicom),
        "nifti": Kind(".nii.gz", _save_nifti),
        "array": Kind(".npy", partial(_save_array, num_bands=3)),
        "array 16 bit": Kind(".npy", partial(_save_array, num_bands=1, dtype="u2")),
    }


def _kinds_that_are_no_pictures() -> dict[str, Kind]:
    return {
        "dicom without a picture": Kind(".dcm", partial(_write, content=bytes(128) + b"DICM"), "skipped"),
        "dicom without suffix": Kind("", partial(_write, content=bytes(128) + b"DICM"), "skipped"),
        "video": Kind(".mp4", partial(_write, content=b"\0\0\0\x18ftypmp42"), "skipped"),
        "text named png": Kind(".png", partial(_write, content=b"not a picture"), "skipped"),
        "page named jpg": Kind(".jpg", partial(_write, content=b"<!DOCTYPE html><p>404"), "skipped"),
        "archive named npy": Kind(".npy", partial(_write, content=b"PK\3\4 not an archive"), "skipped"),
        "empty": Kind(".jpg", partial(_write, content=b""), "skipped"),
        "jpeg without suffix": Kind("", partial(_save, format="jpeg"), "skipped"),
        "notes": Kind(".txt", partial(_write, content=b"seen from the bridge"), "left alone"),
        "table": Kind(".csv", partial(_write, content=b"name,weather\n"), "left alone"),
    }


KINDS = {**_kinds_of_png(), **_kinds_of_tiff(), **_kinds_of_others(), **_kinds_that_are_no_pictures()}
