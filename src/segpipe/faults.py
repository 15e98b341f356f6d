"""What can be wrong with labelled images: every kind by name, and what is done about it by default.

A `Fault` is found in one file or sample and may show the pixels concerned. `KINDS` is the table of all kinds; the
policy of `params.yaml`, the reports and the documentation use its names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Action = Literal["fail", "skip", "warn"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with an image or a mask.

    Args:
        kind: a key of `KINDS`.
        what: what is wrong, with the values seen; continues a sentence that begins with the file's name.
        fix: what to do about it.
        pixels: (height, width) bool, True where the fault is seen; None if it has no place in the image.
        is_fixed: whether the `pixels` of the `Reading` are already the result of the safe fix.
    """

    kind: str
    what: str
    fix: str
    pixels: npt.NDArray[np.bool_] | None = None
    is_fixed: bool = False

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        assert not self.is_fixed or KINDS[self.kind].safe_fix, self.kind


@dataclass(frozen=True)
class Reading:
    """What reading a file gave.

    Args:
        pixels: uint8; of an image (height, width, 3) RGB, of a mask (height, width) class indices with void = 255; None
            if the file gives nothing usable.
        faults: all that was found.
    """

    pixels: npt.NDArray[np.uint8] | None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of fault or problem.

    Args:
        meaning: what it is, for a person.
        action: what is done by default.
        allowed: the actions that `preprocess.policy.actions` may choose: a sample without usable pixels cannot be kept.
        safe_fix: what `preprocess.policy.fix` does in the cases that have only one meaning; empty for none.
    """

    meaning: str
    action: Action
    allowed: tuple[Action, ...]
    safe_fix: str = ""


def _unusable(meaning: str, safe_fix: str = "") -> Kind:
    return Kind(meaning, "fail", ("fail", "skip"), safe_fix)


def _doubtful(meaning: str, action: Action = "fail") -> Kind:
    return Kind(meaning, action, ("fail", "skip", "warn"))


def _fatal(meaning: str) -> Kind:
    return Kind(meaning, "fail", ("fail",))


def _of_the_set(meaning: str, action: Action = "fail") -> Kind:
    return Kind(meaning, action, ("fail", "warn"))


KINDS: dict[str, Kind] = {
    # Files that are not there or not named as they should be; found by readers.
    "mask-missing": _unusable("an image without its mask"),
    "image-missing": _unusable("a mask without its image"),
    "listed-missing": _unusable("a list file names a file that is not there"),
    "list-line": _unusable("a line of a list or table file cannot be understood"),
    "annotation": _unusable("an entry of an annotation file cannot be understood"),
    "name-twice": _unusable("two files with the same name"),
    # Files that cannot be used as they are.
    "not-an-image": _unusable("a file that is no image of a known format"),
    "image-damaged": _unusable("a truncated or damaged file"),
    "image-too-large": _unusable("more pixels than the limit, or than the file's size can hold"),
    "image-mode": _unusable(
        "an image of deep values or of bands whose mapping is not stated, of several pages, or of another kind"
    ),
    "image-turned": _unusable(
        "an image that an EXIF entry turns, while its mask is not turned or its size does not tell",
        "left as it is stored, where its mask has this size",
    ),
    "mask-turned": _unusable("a mask that an EXIF entry turns"),
    "mask-mode": _unusable(
        "a mask of colours where class indices are expected, or the other way round",
        "one channel, where all channels hold the same class indices",
    ),
    "mask-alpha": _unusable("a mask with transparent pixels"),
    "mask-depth": _unusable(
        "a mask with 16-bit values above 255", "values divided by 257 or 256, where all are multiples of it"
    ),
    "mask-values": _unusable("mask values outside the class table"),
    "mask-colors": _unusable("mask colours outside the label map"),
    "mask-binary": _unusable(
        "a mask of 0 and 255 where the class table has other values, or of 0 and 1 where it has 255",
        "255 read as 1, or 1 as 255, where the table has these two classes and no other meaning for the value",
    ),
    "mask-blended": _unusable("a mask resized with interpolation or compressed with loss: stray values along edges"),
    "size-mismatch": _unusable("a mask of another size than its image"),
    # Files that can be used but are probably wrong.
    "mask-lossy": _doubtful("a mask in a file that was compressed with loss, though all its values are known"),
    "mask-seams": _doubtful("a mask with thin seams of other classes between its regions, as interpolation makes them"),
    "mask-binary-void": _doubtful("a mask of only 0 and 255, where 255 is void and 1 is the other class"),
    "image-grey-part": _doubtful("an image whose lower part is one flat colour, as a broken copy leaves it"),
    "image-bands": _doubtful("an image with bands beyond its colours, which are not used", "warn"),
    "image-transparent": _doubtful("a transparent image whose hidden colours are used", "warn"),
    "image-constant": _doubtful("an image of nearly one colour", "warn"),
    "annotation-outside": _doubtful("an annotation that reaches beyond its image, where it is cut off", "warn"),
    "mask-void": _doubtful("a mask without any labelled pixel", "warn"),
    "mask-constant": _doubtful("a mask of a single class", "warn"),
    # Of the whole set.
    "id-twice": _fatal("two samples with the same name"),
    "name-unusable": _fatal(
        "a name of a class or sample that cannot be shown, looks like another, or cannot be a file's name"
    ),
    "group-missing": _fatal("a sample whose group is not found"),
    "group-unknown": _fatal("a rule of the split names a group that does not exist"),
    "split-empty": _fatal("a split without samples"),
    "split-void": _fatal("a split without labelled pixels"),
    "class-untrained": _fatal("a class without any pixel in the training split"),
    "class-absent": _of_the_set("a class without pixels in val or test, where it cannot be measured", "warn"),
    "leak-exact": _of_the_set("the same image in two splits"),
    "leak-near": _of_the_set("images that look alike in two splits"),
    "leak-sequence": _of_the_set("neighbours of one sequence in two splits"),
    "duplicate": _of_the_set("the same image twice in one split", "warn"),
    "folder-missing": _fatal("a folder that the format asks for is not there"),
    "list-missing": _fatal("a list file that the format asks for is not there"),
    "empty": _fatal("a source without any image"),
    "too-many-skipped": _of_the_set("more samples left out than preprocess.policy.max_skipped allows"),
}


def shown(values: Sequence[object], num_shown: int = 8) -> str:
    """Lists the first few values for a message."""
    return ", ".join(map(str, values[:num_shown])) + (", ..." if len(values) > num_shown else "")
