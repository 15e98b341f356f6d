"""Names the cause of unknown mask colours: which mistake makes such colours, and where they are.

As in `diagnosis`: each known mistake is a function, and the first that returns a fault decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX
from segpipe.data.masks.stray_pixels import COMPRESSED, EXPORT_AGAIN, EXPORT_LOSSLESS, RESIZED, is_along_edges
from segpipe.faults import Fault, shown

LOWEST_BYTE = 0xFF
MIN_COLORS_OF_PHOTO = 1000
FEW_LEVELS, UNITS_OF_JPEG = 12, 40

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Colors:
    """A mask that holds unknown colours.

    Args:
        rgb: (height, width, 3) uint8.
        indices: class index, or `IGNORE_INDEX`, of each known colour.
        palette_indices: (height, width) uint8, if the file has a palette.
        is_lossy: whether its file was compressed with loss.
    """

    rgb: npt.NDArray[np.uint8]
    indices: Mapping[Color, int]
    palette_indices: npt.NDArray[np.uint8] | None
    is_lossy: bool

    @cached_property
    def _counted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        parts = self.rgb.astype(np.int64)
        packed = parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]
        packed_colors, positions, num_px = np.unique(packed, return_inverse=True, return_counts=True)
        colors = np.stack([packed_colors >> 16, packed_colors >> 8 & LOWEST_BYTE, packed_colors & LOWEST_BYTE], axis=1)
        return colors, positions.reshape(packed.shape), num_px

    @property
    def colors(self) -> npt.NDArray[np.int64]:
        """Each colour that occurs, (num_colors, 3)."""
        return self._counted[0]

    @property
    def num_px(self) -> npt.NDArray[np.int64]:
        """Pixels of each of `colors`."""
        return self._counted[2]

    @cached_property
    def is_unknown(self) -> npt.NDArray[np.bool_]:
        """Which of `colors` are unknown."""
        return np.array([tuple(color) not in self.indices for color in self.colors.tolist()])

    @cached_property
    def is_wrong(self) -> npt.NDArray[np.bool_]:
        """Where the unknown colours are, (height, width)."""
        return np.asarray(self.is_unknown[self._counted[1]])

    @cached_property
    def nearest(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each of `colors` the nearest known one, (num_colors, 3), and the greatest difference of a channel."""
        known = np.array(list(self.indices), np.int64)
        distances = np.empty((len(known), len(self.colors)), np.int64)
        for row, color in enumerate(known):
            distances[row] = np.abs(self.colors - color).max(axis=1)
        return known[distances.argmin(axis=0)], distances.min(axis=0)

    def fault(self, kind: str, what: str, fix: str) -> Fault:
        """A fault that marks the unknown colours."""
        return Fault(kind, what, fix, self.is_wrong)

    def shown_unknown(self, has_nearest: bool = False) -> str:
        """The unknown colours, the most frequent first, for a message."""
        chosen = np.flatnonzero(self.is_unknown)
        chosen = chosen[np.argsort(-self.num_px[chosen], kind="stable")]
        nearest, distances = self.nearest
        texts = [
            _hex(self.colors[i]) + (f" (nearest {_hex(nearest[i])}, {distances[i]} away)" if has_nearest else "")
            for i in chosen[:9]
        ]
        return f"{shown(texts)} ({int(self.num_px[self.is_unknown].sum())} px)"


def _hex(color: npt.NDArray[np.int64]) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in color)


def diagnose_colors(colors: Colors) -> Fault:
    """Says what is wrong with a mask that holds colours outside the label map."""
    for mistake in (
        _swapped_channels,
        _indices_as_colors,
        _colors_along_edges,
        _photograph,
        _colors_of_compression,
        _few_units_off,
    ):
        fault = mistake(colors)
        if fault is not None:
            return fault
    what = f"holds colours outside the label map: {colors.shown_unknown(has_nearest=True)}"
    return colors.fault("mask-colors", what, "Add them to the map, as classes or as void, or fix the mask")


def _swapped_channels(colors: Colors) -> Fault | None:
    if not all(tuple(color) in colors.indices for color in colors.colors[:, ::-1].tolist()):
        return None
    what = f"holds colours that are known when red and blue are exchanged (BGR): {colors.shown_unknown()}"
    # One mask could be fixed; other masks, whose colours are known in both orders, would stay wrong without a fault.
    fix = "Exchange red and blue in all masks of the set: those whose colours are known in both orders show no fault"
    return colors.fault("mask-colors", what, fix)


def _indices_as_colors(colors: Colors) -> Fault | None:
    num_classes = len({*colors.indices.values()} - {IGNORE_INDEX})
    if colors.palette_indices is not None and colors.is_unknown.mean() > 0.5:
        present = np.unique(colors.palette_indices).tolist()
        if all(index < num_classes or index == IGNORE_INDEX for index in present):
            what = f"has a palette whose colours are not in the label map; its indices are {shown(present)}"
            return colors.fault("mask-mode", what, "If these are the class indices, read it as an index mask")
    values = colors.colors[:, 0]
    is_grey = bool((colors.colors == values[:, None]).all())
    if not is_grey or not ((values < num_classes) | (values == IGNORE_INDEX)).all():
        return None
    what = f"holds class indices in three equal channels, not colours: {shown(values.tolist())}"
    return colors.fault("mask-mode", what, "Read it as an index mask, or export it with the label map's colours")


def _colors_along_edges(colors: Colors) -> Fault | None:
    if colors.is_lossy or not is_along_edges(colors.rgb, colors.is_wrong):
        return None
    what = f"{RESIZED}: mixed colours along edges: {colors.shown_unknown()}"
    return colors.fault("mask-blended", what, EXPORT_AGAIN)


def _photograph(colors: Colors) -> Fault | None:
    _, distances = colors.nearest
    is_far = distances > UNITS_OF_JPEG
    if len(colors.colors) < MIN_COLORS_OF_PHOTO or colors.num_px[is_far].sum() * 5 < colors.num_px.sum():
        return None
    what = f"holds {len(colors.colors)} different colours, as a photograph does"
    return colors.fault("mask-mode", what, "Replace it by the mask; image and mask may be exchanged")


def _colors_of_compression(colors: Colors) -> Fault | None:
    _, distances = colors.nearest
    num_near = colors.num_px[colors.is_unknown & (distances <= UNITS_OF_JPEG)].sum()
    looks_so = (
        np.count_nonzero(colors.is_unknown) >= 4 * len(colors.indices)
        and num_near >= 0.5 * colors.num_px[colors.is_unknown].sum()
    )
    if not colors.is_lossy and not looks_so:
        return None
    what = (
        f"{COMPRESSED}: {np.count_nonzero(colors.is_unknown)} colours around the known ones: {colors.shown_unknown()}"
    )
    return colors.fault("mask-blended", what, EXPORT_LOSSLESS)


def _few_units_off(colors: Colors) -> Fault | None:
    _, distances = colors.nearest
    if distances.max() > FEW_LEVELS:
        return None
    what = f"holds colours a few units off known ones: {colors.shown_unknown(has_nearest=True)}"
    fix = "A gamma or colour profile was applied, or the map is of another version: correct the map or export again"
    return colors.fault("mask-colors", what, fix)
