"""What the masks of a set hold, all of them together: the values or colours that a class table has to explain."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.classes import Color
from segpipe.data.images.decoding import ImageFileError, decode, is_lossy
from segpipe.data.masks.labels import COLOR_MODES, fault_of_colors, fault_of_container, values_of
from segpipe.faults import Fault

MAX_MASKS = 200
# A class table has at most 255 classes. More values or colours are a photograph, or a mask compressed with loss.
MAX_DIFFERENT = 300


@dataclass(frozen=True)
class Survey:
    """The content of masks, before anything says what it means.

    Args:
        num_masks: how many were read.
        num_in_set: how many there are.
        values: the number of masks that hold each value, of masks with one channel; ascending.
        colors: the number of masks that hold each RGB colour, of masks of colours; ascending.
        palette: the colour of each value, where all masks of one channel have the same palette.
        is_lossy: whether a mask was saved with loss, as JPEG is, which adds values and colours.
        unread: what is wrong with the first mask that was not read, and how to fix it; '' if all were.
    """

    num_masks: int
    num_in_set: int
    values: Mapping[int, int]
    colors: Mapping[Color, int]
    palette: Mapping[int, Color]
    is_lossy: bool = False
    unread: str = ""

    @property
    def is_of_values(self) -> bool:
        """Whether all masks have one channel with values that a class table can hold."""
        return bool(self.values) and not self.colors and len(self.values) < MAX_DIFFERENT

    @property
    def is_of_colors(self) -> bool:
        """Whether all masks hold colours that a class table can hold."""
        return bool(self.colors) and not self.values and len(self.colors) < MAX_DIFFERENT

    @property
    def extent(self) -> str:
        """Which masks were read, for a message."""
        is_all = self.num_masks == self.num_in_set
        return f"the {self.num_masks} masks" if is_all else f"{self.num_masks} of the {self.num_in_set} masks"


def survey_masks(paths: Sequence[Path]) -> Survey:
    """Reads masks, at most 200 evenly spread ones; those that cannot be read do not count.

    Args:
        paths: of the masks, sorted.
    """
    chosen = paths[:: max(1, -(-len(paths) // MAX_MASKS))]
    values: Counter[int] = Counter()
    colors: Counter[Color] = Counter()
    palettes: set[tuple[int, ...] | None] = set()
    found = [(path, _read(path)) for path in chosen]
    read = [held for _, held in found if isinstance(held, _Held)]
    unread = [f"{path.name}: {fault.what}. {fault.fix}" for path, fault in found if isinstance(fault, Fault)]
    num_masks = len(read)
    # A grey RGB picture among coloured ones, such as an image of nothing, is a mask of colours too.
    is_of_colors = any(not held.values for held in read)
    for held in read:
        if held.colors and is_of_colors:
            colors.update(held.colors)
        else:
            values.update(held.values)
            palettes.add(held.palette)
    palette = next(iter(palettes)) if len(palettes) == 1 else None
    return Survey(
        num_masks,
        len(paths) if len(chosen) < len(paths) else num_masks,
        dict(sorted(values.items())),
        dict(sorted(colors.items())),
        {value: _color_in(palette, value) for value in values if 3 * value + 2 < len(palette)} if palette else {},
        is_lossy=any(held.is_lossy for held in read),
        unread=next(iter(unread), ""),
    )


@dataclass(frozen=True)
class _Held:
    values: tuple[int, ...] = ()
    colors: tuple[Color, ...] = ()
    palette: tuple[int, ...] | None = None
    is_lossy: bool = False


def _read(path: Path) -> _Held | Fault | None:
    """Gives what a mask holds, the first `MAX_DIFFERENT` of it, or why it is no mask; None if there is no file."""
    try:
        image, bits = decode(path)
    except ImageFileError as error:
        return error.fault
    except OSError:
        return None
    if fault := fault_of_container(image):
        return fault
    has_loss = is_lossy(image, path)
    values, faults = values_of(image, bits)
    if values is not None:
        palette = image.getpalette("RGB") if image.mode == "P" else None
        held = tuple(np.unique(values)[:MAX_DIFFERENT].tolist())
        colors = _colors_of(image) if image.mode in {"RGB", "RGBA"} else ()
        return _Held(held, colors, None if palette is None else tuple(palette), has_loss)
    fault = fault_of_colors(image, bits) if image.mode in COLOR_MODES else faults[0]
    return _Held(colors=_colors_of(image), is_lossy=has_loss) if fault is None else fault


def _colors_of(image: Image.Image) -> tuple[Color, ...]:
    image.info.pop("transparency", None)
    parts = np.asarray(image.convert("RGB")).astype(np.uint32)
    packed = np.unique(parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2])[:MAX_DIFFERENT].tolist()
    return tuple((color >> 16, color >> 8 & 0xFF, color & 0xFF) for color in packed)


def _color_in(palette: Sequence[int], value: int) -> Color:
    red, green, blue = palette[3 * value : 3 * value + 3]
    return red, green, blue
