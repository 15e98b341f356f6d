"""Covers a large image with windows that overlap, so that its prediction needs a limited amount of memory.

Source: the overlap-tile strategy of Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, figure 2; the Gaussian weights of
Isensee et al., "nnU-Net", Nature Methods 2021, section "Inference": a pixel's logits are the mean over all windows that
hold it, and those in whose middle it lies count most. So there are no seams.
Deviation: at the image's border there is no mirrored margin. Windows lie inside the image, so the border of the image
is the border of a window, and the network pads it as it pads a whole image.
"""

from dataclasses import dataclass

import torch

# Larger images are never predicted whole.
MAX_WHOLE_PX = 2048 * 2048

# The windows of a large image, where `evaluate.inference.window_px` names no side: about half the pixels of the largest
# whole image.
LARGE_WINDOW_PX = 1536

# The cells of a network's coarsest features are at the same places as in the whole image only if windows begin at a
# multiple of the cell size: 32 px in most networks, 64 px in the deepest U-Net.
ALIGNMENT_PX = 64

# The weights' standard deviation, as a share of the window's side.
SIGMA = 1 / 8


@dataclass(frozen=True)
class Span:
    """The rows, or the columns, of a window.

    Attributes:
        place: the rows or columns.
        weights: (length,) float32; over all windows that hold a row, its weights add up to 1.
    """

    place: slice
    weights: torch.Tensor


def is_huge(height_px: int, width_px: int) -> bool:
    """Whether an image of this size is too large to be predicted whole."""
    return height_px * width_px > MAX_WHOLE_PX


def plan_spans(length_px: int, window_px: int, overlap: float) -> list[Span]:
    """Covers one side of an image with windows.

    The windows are evenly spread; the last one is up to `ALIGNMENT_PX` longer, so that there are no small ones.

    Args:
        length_px: of the side, at least 1.
        window_px: of a window, at least `ALIGNMENT_PX`.
        overlap: share of a window that its neighbour covers too, at least, 0..1; a step has at least `ALIGNMENT_PX`.

    Returns:
        The spans in order; one span if the side is not longer than a window.
    """
    places = [slice(start, stop) for start, stop in _cut_side(length_px, window_px, overlap)]
    total = torch.zeros(length_px)
    for place in places:
        total[place] += _bell(place.stop - place.start)
    return [Span(place, _bell(place.stop - place.start) / total[place]) for place in places]


def _cut_side(length_px: int, window_px: int, overlap: float) -> list[tuple[int, int]]:
    last_start = (length_px - window_px) // ALIGNMENT_PX * ALIGNMENT_PX
    if last_start <= 0:
        return [(0, length_px)]
    # The largest step that leaves the overlap; a multiple of the alignment, because starts are rounded to it.
    max_step = max(1, int(window_px * (1 - overlap)) // ALIGNMENT_PX) * ALIGNMENT_PX
    num_steps = -(-last_start // max_step)
    starts = [i * last_start // num_steps // ALIGNMENT_PX * ALIGNMENT_PX for i in range(num_steps + 1)]
    return [*((start, start + window_px) for start in starts[:-1]), (starts[-1], length_px)]


def _bell(length_px: int) -> torch.Tensor:
    """Gives (length,) float32: a Gaussian, highest in the middle."""
    offsets = torch.arange(length_px) - (length_px - 1) / 2
    return torch.exp(-0.5 * (offsets / (SIGMA * length_px)) ** 2)
