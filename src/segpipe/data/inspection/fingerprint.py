"""How images that look alike are found: a short fingerprint for the search, and a comparison of pixels to be sure.

The fingerprint of a copy changes little by another size, compression, brightness, mirroring or a narrow crop. It only
gives candidates; `measure_similarity` compares thumbnails of their pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

NUM_FREQUENCIES = 8
NUM_COEFFICIENTS = NUM_FREQUENCIES**2 - 1
GRID_PX = 32
THUMBNAIL_PX = 64
MAX_CONTRAST = 255

# Only details finer than SHADING_PX show that two images are the same: all skies brighten downwards.
SMOOTHING_PX, SHADING_PX = 1.0, 4.0
EDGE_PX = 8
MIN_DETAIL = 1.0  # grey levels
MAX_STRETCH, MAX_SHIFT_PX = 0.2, 0.2 * THUMBNAIL_PX
NUM_ALIGNMENTS = 20
ALIGNMENT_STEP = 1e-3
ALIGNMENT_BLUR_PX = 5

Grey = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


def _cosines() -> npt.NDArray[np.float64]:
    """The rows of a discrete cosine transform as whole numbers: sums of whole numbers are the same on any machine."""
    frequency, place = np.arange(NUM_FREQUENCIES)[:, None], np.arange(GRID_PX)[None]
    return (np.cos(np.pi * frequency * (2 * place + 1) / (2 * GRID_PX)) * 2**12).round()


def _weights() -> npt.NDArray[np.float64]:
    """Square root of the frequency: natural images hold most at the lowest frequencies, this partly evens it out."""
    rows, columns = np.indices((NUM_FREQUENCIES, NUM_FREQUENCIES))
    return np.sqrt(np.hypot(rows, columns))


COSINES, FREQUENCY_WEIGHTS = _cosines(), _weights()
MIRROR = np.where(np.arange(1, NUM_COEFFICIENTS + 1) % NUM_FREQUENCIES % 2 == 1, -1, 1).astype(np.float32)


def fingerprint(image: npt.NDArray[np.uint8]) -> str:
    """Describes an image by its contrast and 63 coarse frequencies.

    Like pHash (C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), but each
    coefficient of the cosine transform keeps eight bits instead of one, and the lower ones weigh less.

    Args:
        image: (height, width, 3) uint8 RGB.

    Returns:
        128 hexadecimal digits: a byte with the deviation of the grey levels (0..255), then a signed byte a coefficient.
    """
    grid = _shrink(image, GRID_PX).astype(np.float64)
    spectrum = (COSINES @ grid @ COSINES.T * FREQUENCY_WEIGHTS).ravel()[1:]
    largest = np.abs(spectrum).max()
    coefficients = (spectrum / largest * 127).round() if largest > 0 else spectrum
    contrast = min(round(float(grid.std())), MAX_CONTRAST)
    return bytes([contrast]).hex() + coefficients.astype(np.int8).tobytes().hex()


def _shrink(image: npt.NDArray[np.uint8], size_px: int) -> Grey:
    """Shrinks to a grey square; by repeated halving, which is several times faster than in one step."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    while min(grey.shape) >= 4 * size_px:
        height, width = (length // 2 for length in grey.shape)
        grey = np.asarray(cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(grey, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)


def read_fingerprints(texts: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.uint8]]:
    """Makes fingerprints comparable.

    Args:
        texts: what `fingerprint` gave.

    Returns:
        (num_images, 63) float32 rows of length 1, zero if an image is of one colour: the product of two rows is
        nearly 1 for copies, and with one of the rows times `MIRROR` for mirrored copies; and each image's contrast,
        (num_images,) uint8 grey levels.
    """
    packed = np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), NUM_COEFFICIENTS + 1)
    vectors = packed[:, 1:].view(np.int8).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1), packed[:, 0]


def make_thumbnail(image: npt.NDArray[np.uint8]) -> Grey:
    """Shrinks an image for `measure_similarity`.

    Args:
        image: (height, width, 3) uint8 RGB.

    Returns:
        (64, 64) uint8 grey, for any shape of the image.
    """
    return _shrink(image, THUMBNAIL_PX)


def measure_similarity(first: Grey, second: Grey) -> float:
    """Aligns one thumbnail with the other as well as possible and correlates their details.

    The fit is affine and found by enhanced correlation (Evangelidis, Psarakis, "Parametric image alignment using
    enhanced correlation coefficient maximization", TPAMI 2008), so that a cropped copy is found.

    Args:
        first: (64, 64) uint8 grey.
        second: the same.

    Returns:
        At most 1, for equal details; 0 if one of them has no details.
    """
    fixed, moving = _smooth(first), _smooth(second)
    unaligned = _correlate_details(fixed, moving, np.ones(fixed.shape, np.bool_))
    shift = _align(fixed, moving)
    if shift is None:
        return unaligned
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(moving, shift, moving.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(moving.shape, np.uint8), shift, moving.shape[::-1], flags=flags)
    return max(unaligned, _correlate_details(fixed, np.asarray(moved, np.float32), np.asarray(inside > 0, np.bool_)))


def _smooth(thumbnail: Grey) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), SMOOTHING_PX), np.float32)


def _align(fixed: npt.NDArray[np.float32], moving: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """Finds the affine map from `fixed` to `moving`, (2, 3); None if there is none near to the identity."""
    identity = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, NUM_ALIGNMENTS, ALIGNMENT_STEP)
    try:
        everywhere = np.ones(fixed.shape, np.uint8)
        _, found = cv2.findTransformECC(
            fixed, moving, identity.copy(), cv2.MOTION_AFFINE, criteria, everywhere, ALIGNMENT_BLUR_PX
        )
    except cv2.error:  # the images have nothing in common
        return None
    change = np.abs(found - identity)
    is_near = change[:, :2].max() <= MAX_STRETCH and change[:, 2].max() <= MAX_SHIFT_PX
    return np.asarray(found, np.float32) if is_near else None


def _correlate_details(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]
) -> float:
    counts = inside.copy()
    for edge in (
        np.s_[:EDGE_PX],
        np.s_[-EDGE_PX:],
        np.s_[:, :EDGE_PX],
        np.s_[:, -EDGE_PX:],
    ):
        counts[edge] = False  # there the blur uses values from outside
    a, b = ((t - cv2.GaussianBlur(t, (0, 0), SHADING_PX))[counts] for t in (first, second))
    if a.size == 0 or min(a.std(), b.std()) < MIN_DETAIL:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
