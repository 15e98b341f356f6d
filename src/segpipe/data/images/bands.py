"""Makes 8-bit RGB of what is more than 8-bit colours: deep values, fractions, further bands, arrays.

The file does not say how such values are to be seen. `ImageMapping` says it; where it does not, the image is refused
with the values that it holds and the line to write.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.images.decoding import (
    BITS_OF_CHANNEL,
    MAX_IMAGE_PX,
    MAX_PACKING,
    NUM_PX_BELOW_SUSPICION,
    UPRIGHT,
    ImageFileError,
    named_as_damaged,
    open_array,
)
from segpipe.data.images.dicom import measure_dicom, read_dicom
from segpipe.data.images.formats import NIFTI_SUFFIXES, KindError, suffix_of
from segpipe.data.images.nifti import measure_nifti, read_nifti
from segpipe.data.images.tiff import (
    ALPHA,
    BLACK_IS_ZERO,
    MAX_BANDS,
    PHOTOMETRIC,
    PREMULTIPLIED,
    RGB,
    TiffError,
    TiffLayout,
    read_values,
)
from segpipe.documents import ImageMapping
from segpipe.faults import Fault

BYTE = 255
MAX_PERCENTILE_VALUES = 4_000_000  # more are thinned out evenly
BLOCK_VALUES = 4_000_000
USUAL_BITS = (10, 12, 14, 16)
TRAIN_AGAIN = "in params.yaml; a model keeps it, so one that was trained without it must be trained again"


@dataclass(frozen=True)
class Bands:
    """The values of a file, as they are stored.

    Args:
        values: (height, width, bands), numbers of any type.
        num_colors: the first bands that the file declares as grey (1) or red, green, blue (3); 0 if it declares none.
        alpha: index of the band of opacity, if the file declares one.
        is_premultiplied: whether the colours were multiplied by the opacity.
        orientation: how the file says that it is to be turned, 1 (not at all) to 8.
        window: the values that the file declares as black and white.
        is_inverted: whether the lowest value is white.
    """

    values: npt.NDArray[Any]
    num_colors: int
    alpha: int | None = None
    is_premultiplied: bool = False
    orientation: int = UPRIGHT
    window: tuple[float, float] | None = None
    is_inverted: bool = False


@dataclass(frozen=True)
class Mapped:
    """Eight-bit RGB, and how it was made.

    Args:
        pixels: (height, width, 3) uint8.
        notes: what was done, for `Picture`.
        faults: what is doubtful about it.
    """

    pixels: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def bands_of_tiff(path: Path, layout: TiffLayout) -> Bands:
    """Reads all bands of a TIFF.

    Raises:
        ImageFileError: it is too large.
        TiffError: it is of a kind that is not read.
    """
    height, width = layout.size_hw
    refuse_too_large(height, width, layout.bytes_per_px, path.stat().st_size)
    photometric = layout.first(PHOTOMETRIC, BLACK_IS_ZERO)
    if photometric not in {BLACK_IS_ZERO, RGB}:
        raise TiffError(f"has {layout.num_bands} bands of {layout.bits} bits that are not RGB ({photometric})")
    alpha = next((i for i, meaning in enumerate(layout.extra) if meaning in {PREMULTIPLIED, ALPHA}), None)
    return Bands(
        read_values(path, layout),
        num_colors=layout.num_colors,
        alpha=None if alpha is None else layout.num_colors + alpha,
        is_premultiplied=PREMULTIPLIED in layout.extra,
        orientation=layout.orientation,
    )


def read_array(path: Path) -> Bands:
    """Reads a NumPy array (.npy): (height, width) or (height, width, bands); three bands are red, green, blue.

    Raises:
        ImageFileError: it has another form or type, or is damaged.
    """
    with named_as_damaged(path):
        values = open_array(path)
    if values.dtype.kind not in "biuf":
        raise ImageFileError(Fault("image-mode", f"holds {values.dtype}", "Save numbers: uint8, uint16 or float32"))
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape or values.shape[2] > min(MAX_BANDS, *values.shape[:2]):
        what = f"is an array of the shape {values.shape}"
        raise ImageFileError(Fault("image-mode", what, "Save (height, width) or (height, width, bands), bands last"))
    refuse_too_large(values.shape[0], values.shape[1], values.shape[2] * values.dtype.itemsize, path.stat().st_size)
    if values.dtype == np.bool_:
        values = values.view(np.uint8) * np.uint8(BYTE)
    num_bands = values.shape[2]
    return Bands(values, num_colors=num_bands if num_bands in {1, 3} else 0)


def read_medical(path: Path) -> Bands:
    """Reads a DICOM or NIfTI file of one picture.

    Raises:
        ImageFileError: it holds another number of pictures, is of a kind that is not read, too large, or damaged.
    """
    with named_as_damaged(path):
        try:
            if suffix_of(path.name) in NIFTI_SUFFIXES:
                refuse_too_large(*measure_nifti(path), path.stat().st_size)
                return Bands(read_nifti(path), num_colors=1)
            refuse_too_large(*measure_dicom(path), path.stat().st_size)
            picture = read_dicom(path)
        except KindError as error:
            raise ImageFileError(Fault(error.kind, error.what, error.fix)) from error
    num_colors = picture.values.shape[2]
    return Bands(picture.values, num_colors, window=picture.window, is_inverted=picture.is_inverted)


def refuse_too_large(height: int, width: int, bytes_per_px: int, num_file_bytes: int) -> None:
    """Refuses an image that would take more memory than the largest 8-bit image, or whose header is false.

    Raises:
        ImageFileError: it would.
    """
    num_bytes = height * width * bytes_per_px
    if num_bytes <= min(MAX_IMAGE_PX, max(NUM_PX_BELOW_SUSPICION, MAX_PACKING * num_file_bytes)):
        return
    if num_bytes <= MAX_IMAGE_PX:
        what = f"claims {width}x{height} px in {num_file_bytes} bytes, as a damaged header does"
        raise ImageFileError(Fault("image-too-large", what, "Replace it by an intact copy"))
    what = f"has {width}x{height} px of {bytes_per_px} bytes, more than {MAX_IMAGE_PX // 10**6} MB"
    raise ImageFileError(Fault("image-too-large", what, "Cut it into parts"))


def map_bands(bands: Bands, mapping: ImageMapping) -> Mapped:
    """Makes 8-bit RGB.

    Raises:
        ImageFileError: the mapping does not say how; names the line that would.
    """
    chosen, notes, faults = choose_bands(bands.values.shape[2], bands.num_colors, bands.alpha, mapping)
    values = bands.values
    if values.dtype == np.uint8:
        low, high = 0.0, float(BYTE)
    else:
        low, high, note = _find_range(values, chosen, mapping, bands.window)
        notes = (*notes, note)
    pixels = _scale(values, chosen, low, high)
    if bands.is_inverted:
        np.subtract(BYTE, pixels, out=pixels)
    if bands.alpha is not None and mapping.background is not None:
        full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
        alpha = _scale(values, (bands.alpha,), 0.0, float(full))
        if (alpha != BYTE).any():
            compose(pixels, alpha, mapping.background, bands.is_premultiplied)
            notes = (*notes, note_of_background(mapping.background))
    return Mapped(pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2), notes, faults)


def choose_bands(
    num_bands: int, num_colors: int, alpha: int | None, mapping: ImageMapping
) -> tuple[tuple[int, ...], tuple[str, ...], tuple[Fault, ...]]:
    """Chooses the bands that become grey or red, green and blue.

    Args:
        num_bands: of the file.
        num_colors: declared by the file: 3, 1 or none.
        alpha: index of the band of opacity.
        mapping: names the bands, or leaves it to the file.

    Returns:
        Their indices, notes, and what is doubtful about the choice.

    Raises:
        ImageFileError: a named band does not exist, or the file does not declare its colours.
    """
    if mapping.bands is not None:
        if max(mapping.bands) > num_bands:
            what = f"has {num_bands} bands, and download.images.bands names band {max(mapping.bands)}"
            raise ImageFileError(Fault("image-mode", what, f"Name bands from 1 to {num_bands} {TRAIN_AGAIN}"))
        notes = (_note_of_bands(mapping.bands, num_bands),)
        return tuple(band - 1 for band in mapping.bands), notes, ()
    num_others = num_bands - num_colors - (alpha is not None)
    if num_colors == 0 or (num_colors == 1 and num_others):
        what = f"has {num_bands} bands, and does not say which are red, green and blue"
        example = "[1]" if num_bands < 3 else "[3, 2, 1]"
        fix = f"Write their numbers, such as `download.images.bands: {example}`, {TRAIN_AGAIN}"
        raise ImageFileError(Fault("image-mode", what, fix))
    colors = tuple(range(num_colors))
    if not num_others:
        return colors, (), ()
    shown = tuple(band + 1 for band in colors)
    fix = f"Write `download.images.bands: {list(shown)}`, or other numbers, in params.yaml"
    what = f"has {num_bands} bands, of which only the colours (1, 2, 3) are used"
    return colors, (_note_of_bands(shown, num_bands),), (Fault("image-bands", what, fix),)


def _note_of_bands(bands: tuple[int, ...], num_bands: int) -> str:
    return f"band{'s' * (len(bands) > 1)} {', '.join(map(str, bands))} of {num_bands}"


def note_of_background(background: tuple[int, int, int]) -> str:
    """Says on which colour a transparent image was composed."""
    known = {(BYTE, BYTE, BYTE): "white", (0, 0, 0): "black"}
    return f"transparency composed on {known.get(background, f'RGB {background}')}"


def _find_range(
    values: npt.NDArray[Any], chosen: tuple[int, ...], mapping: ImageMapping, window: tuple[float, float] | None
) -> tuple[float, float, str]:
    """Gives the values that become 0 and 255, and a note; the file's window counts only where nothing is stated."""
    if mapping.range is not None:
        low, high = mapping.range
        return low, high, f"values {low:g}..{high:g} mapped to 0..255"
    if mapping.percentiles is None and window is not None:
        low, high = window
        return low, high, f"values {low:g}..{high:g}, the file's window, mapped to 0..255"
    step = max(1, int((values.shape[0] * values.shape[1] * len(chosen) / MAX_PERCENTILE_VALUES) ** 0.5 + 1))
    part = values[::step, ::step][..., list(chosen)] if mapping.percentiles else values[..., list(chosen)]
    finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part.ravel()
    if not finite.size:
        raise ImageFileError(Fault("image-mode", "holds no number (only NaN or infinity)", "Replace or remove it"))
    if mapping.percentiles is not None:
        low, high = (float(value) for value in np.percentile(finite, mapping.percentiles))
        return low, high, f"values {low:g}..{high:g}, percentiles of this image, mapped to 0..255"
    raise ImageFileError(_without_range(values.dtype, finite.min(), finite.max()))


def _without_range(dtype: np.dtype[Any], lowest: Any, highest: Any) -> Fault:
    """Says which values a deep image holds, and which line would map them."""
    kind = "fractions" if dtype.kind == "f" else f"values of {dtype.itemsize * 8} bits"
    if dtype.kind == "f":
        proposed = (0.0, 1.0) if lowest >= 0 and highest <= 1 else (float(np.floor(lowest)), float(np.ceil(highest)))
    else:
        bits = next((bits for bits in USUAL_BITS if lowest >= 0 and highest < 2**bits), None)
        proposed = (0, 2**bits - 1) if bits is not None else (int(lowest), int(highest))
    low, high = (f"{value:g}" if isinstance(value, float) else str(value) for value in proposed)
    what = f"holds {kind} ({dtype}), here {lowest:g}..{highest:g}, and it is not stated which become black and white"
    fix = f"Write `download.images.range: [{low}, {high}]`, or percentiles, {TRAIN_AGAIN}"
    return Fault("image-mode", what, fix)


def _scale(values: npt.NDArray[Any], chosen: tuple[int, ...], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Maps low..high of some bands to 0..255; what is no number becomes 0."""
    height, width = values.shape[:2]
    pixels = np.empty((height, width, len(chosen)), np.uint8)
    num_rows = max(1, BLOCK_VALUES // (width * len(chosen)))
    for top in range(0, height, num_rows):
        part = values[top : top + num_rows][..., list(chosen)]
        if values.dtype == np.uint8:
            pixels[top : top + num_rows] = part
            continue
        scaled = (part.astype(np.float64) - low) * (BYTE / (high - low) if high > low else 0.0)
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=BYTE, neginf=0.0)
        pixels[top : top + num_rows] = np.rint(np.clip(scaled, 0, BYTE))
    return pixels


def compose(
    pixels: npt.NDArray[np.uint8],
    alpha: npt.NDArray[np.uint8],
    background: tuple[int, int, int],
    is_premultiplied: bool = False,
) -> None:
    """Puts an image on a background, in place: alpha c + (1 - alpha) b.

    Args:
        pixels: (height, width, 3) or, of grey, (height, width, 1).
        alpha: opacity, (height, width, 1), 0..255.
        background: RGB; on grey its mean.
        is_premultiplied: whether the colours were already multiplied by alpha.
    """
    behind = np.array(background, np.uint16) if pixels.shape[2] == 3 else np.array([sum(background) // 3], np.uint16)
    num_rows = max(1, BLOCK_VALUES // max(1, pixels.shape[1] * 3))
    for top in range(0, pixels.shape[0], num_rows):
        opacity = alpha[top : top + num_rows].astype(np.uint16)
        part = pixels[top : top + num_rows].astype(np.uint16)
        front = part * BYTE if is_premultiplied else part * opacity
        mixed = (front + behind * (BYTE - opacity) + BYTE // 2) // BYTE
        pixels[top : top + num_rows] = np.minimum(mixed, BYTE)


def deep_values(path: Path, bits: int) -> npt.NDArray[Any] | None:
    """Reads a PNG or PPM of 16 bits, which Pillow has found intact but would reduce to 8 bits.

    Returns:
        (height, width, bands) uint16, colours as RGB; None if it cannot be read so.
    """
    if bits <= BITS_OF_CHANNEL:
        return None
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        return None
    values = values.reshape(*values.shape[:2], -1)
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(values.shape[2])
    return values if order is None else np.ascontiguousarray(values[..., order])
