"""What a model says about one image."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.reports.drawing.overlay import colorize


@dataclass(frozen=True, eq=False)
class Prediction:
    """The mask of one image.

    Attributes:
        mask: (H, W) uint8 class indices, as `classes.names` counts them from 0.
        confidence: (H, W) float32, 0..1: the probability of the mask's class.
        classes: names and colours of the classes.
        notes: what was done to the values of the image's file, such as `turned upright by EXIF`; mostly empty.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32] = field(repr=False)
    classes: ClassTable = field(repr=False)
    notes: tuple[str, ...] = ()

    def colors(self) -> Image.Image:
        """Draws the mask in the classes' colours: an RGB picture of the mask's size."""
        return Image.fromarray(colorize(self.mask, self.classes))

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has, 0..1, by its name; together they are 1."""
        num_px = np.bincount(self.mask.ravel(), minlength=self.classes.num_classes)
        return dict(zip(self.classes.names, (num_px / self.mask.size).tolist(), strict=True))

    def __repr__(self) -> str:
        """The size and the classes that were found, the largest first."""
        height, width = self.mask.shape
        found = sorted(((share, name) for name, share in self.shares.items() if share), reverse=True)
        return f"Prediction({width}x{height} px: {', '.join(f'{name} {share:.1%}' for share, name in found)})"
