"""The class table: what the values of a mask of the store mean."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = 255
MAX_NUM_CLASSES = IGNORE_INDEX

Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Names and display colours of the classes.

    In a mask, value i < `num_classes` is class i and `IGNORE_INDEX` is void: not labelled.

    Args:
        names: one a class, all different.
        colors: RGB, 0..255, one a class.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    @property
    def num_classes(self) -> int:
        """How many classes there are, void not counted."""
        return len(self.names)

    @property
    def digest(self) -> str:
        """Identifies the order and names of the classes (not their colours), 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()[:16]

    def color_lookup(self) -> npt.NDArray[np.uint8]:
        """Maps a mask of the store to RGB; (256, 3), void is black."""
        lookup = np.zeros((256, 3), np.uint8)
        lookup[: self.num_classes] = self.colors
        return lookup

    def to_json(self) -> dict[str, Any]:
        """The table as plain lists, for `from_json`."""
        return {"names": list(self.names), "colors": [list(c) for c in self.colors]}

    @staticmethod
    def from_json(document: dict[str, Any]) -> "ClassTable":
        """Reads what `to_json` gave."""
        colors = tuple((int(r), int(g), int(b)) for r, g, b in document["colors"])
        return ClassTable(tuple(document["names"]), colors)
