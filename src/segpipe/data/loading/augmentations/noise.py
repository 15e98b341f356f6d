"""The sensor is noisy."""

import functools

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.loading.transform import Bounds, Partners, Transform

# A prime, so that the noise does not repeat in rows of any width. 4 MB as int8.
BANK_SIZE = 4_194_301
# One standard deviation in the bank: int8 holds up to four of them, and 6 in 100,000 numbers are larger.
BANK_SIGMA = 32


def build_transform(*, sigma: Bounds = (0.0, 12.0)) -> Transform:
    """Adds independent Gaussian noise to each value; its standard deviation is uniform in `sigma`.

    The noise is cut from a bank of four million normal numbers at a random place: drawing it for each sample takes ten
    times as long. Within a sample no number occurs twice (unless it has more values than the bank); two samples
    may share a stretch of noise, at different places.

    Args:
        sigma: lower and upper bound of the standard deviation, of values 0..255.
    """

    def add_noise(
        image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        strength, first = rng.uniform(*sigma), int(rng.integers(BANK_SIZE))
        flat = image.reshape(-1, 1)
        bank = _bank()
        begin = 0
        while begin < len(flat):
            piece = flat[begin : begin + BANK_SIZE - first]
            noise = bank[first : first + len(piece)]
            cv2.addWeighted(piece, 1.0, noise, strength / BANK_SIGMA, 0.0, dst=piece, dtype=cv2.CV_8U)
            begin, first = begin + len(piece), 0

    return add_noise


@functools.cache
def _bank() -> npt.NDArray[np.int8]:
    """Always the same numbers, (BANK_SIZE, 1)."""
    numbers = np.random.default_rng(0).standard_normal((BANK_SIZE, 1), np.float32)
    return (numbers * BANK_SIGMA).round().clip(-127, 127).astype(np.int8)
