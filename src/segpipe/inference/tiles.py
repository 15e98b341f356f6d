"""Cuts a huge image into tiles, so that its prediction needs a limited amount of memory.

Source: the overlap-tile strategy of Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, figure 2. The network's input is
a window, but only the predictions in its core are used. Around the core is a margin of context, whose predictions come
from other windows.
Deviation: at the image's border there is no mirrored margin. Windows lie inside the image, so the border of the image
is the border of a window, and the network pads it as it pads a whole image.
"""

from dataclasses import dataclass
from itertools import pairwise

# Larger images are cut.
MAX_WHOLE_PX = 2048 * 2048

# A window has about half the pixels of the largest whole image. Measured with networks of the starter data, trained for
# a minute, on 7 Mpx of its scenes, sides divisible by 64: CompactFPN without its image-level context predicts 34 pixels
# differently from the whole image with this margin, and none with 256. Image-level context comes from a window instead
# of the image: 2-4% of the pixels differ in CompactFPN and 1% in LRASPP (8% and 2% on magnified scenes); accuracies are
# within 0.6 points.
WINDOW_PX, MARGIN_PX = 1536, 192

# The cells of a network's coarsest features are at the same places as in the whole image only if windows begin at a
# multiple of the cell size: 32 px in most networks, 64 px in the deepest U-Net.
ALIGNMENT_PX = 64


@dataclass(frozen=True)
class Tile:
    """One piece of an image, as slices of the image's rows and columns.

    Args:
        window: the network's input.
        core: the part whose predictions are used; the cores of all tiles cover each pixel once.
    """

    window: tuple[slice, slice]
    core: tuple[slice, slice]

    @property
    def core_in_window(self) -> tuple[slice, slice]:
        """The core's rows and columns, counted from the window's corner."""
        (rows, columns), (core_rows, core_columns) = self.window, self.core
        return (
            slice(core_rows.start - rows.start, core_rows.stop - rows.start),
            slice(core_columns.start - columns.start, core_columns.stop - columns.start),
        )


def is_huge(height_px: int, width_px: int) -> bool:
    """Whether an image of this size is cut."""
    return height_px * width_px > MAX_WHOLE_PX


def plan_tiles(height_px: int, width_px: int) -> list[Tile]:
    """Covers an image with tiles, row by row.

    Each side of the image is covered by evenly spread windows of `WINDOW_PX`; the last one is up to `ALIGNMENT_PX`
    longer. So there are no small pieces. A core has a margin of at least `MARGIN_PX`, except at the image's border.
    """
    return [
        Tile((window_rows, window_columns), (core_rows, core_columns))
        for window_rows, core_rows in _cut_side(height_px)
        for window_columns, core_columns in _cut_side(width_px)
    ]


def _cut_side(length_px: int) -> list[tuple[slice, slice]]:
    """Gives windows and their cores along one side of an image."""
    last_start = (length_px - WINDOW_PX) // ALIGNMENT_PX * ALIGNMENT_PX
    if last_start <= 0:
        return [(slice(0, length_px), slice(0, length_px))]
    # The largest step that leaves two margins of overlap; a multiple of the alignment, as starts are rounded to it.
    max_step = (WINDOW_PX - 2 * MARGIN_PX) // ALIGNMENT_PX * ALIGNMENT_PX
    num_steps = -(-last_start // max_step)
    starts = [i * last_start // num_steps // ALIGNMENT_PX * ALIGNMENT_PX for i in range(num_steps + 1)]
    stops = [start + WINDOW_PX for start in starts[:-1]] + [length_px]
    borders = [0, *((start + stop) // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)), length_px]
    cores = [slice(first, end) for first, end in pairwise(borders)]
    return [(slice(start, stop), core) for start, stop, core in zip(starts, stops, cores, strict=True)]
