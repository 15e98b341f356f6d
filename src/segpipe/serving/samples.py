"""Stored samples: small pictures on which a model is tried before it answers anyone.

`prepare` predicts them by torch too, when it exports a model; ONNX Runtime must then give the same masks.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segpipe.errors import ServingError
from segpipe.export.exported import Prediction

SAMPLES_FILE = "samples.npz"
SIZES_HW = ((64, 96), (97, 131), (192, 256))  # one whose sides no stride divides
MIN_EQUAL_SHARE = 0.999  # of the pixels; two classes of a pixel may be equally likely but for rounding


def make_samples() -> list[npt.NDArray[np.uint8]]:
    """Draws the pictures, (1, height, width, 3) uint8 each: smooth colours with edges, always the same."""
    rng = np.random.default_rng(0)
    samples = []
    for height, width in SIZES_HW:
        blocks = rng.integers(0, 256, (-(-height // 32), -(-width // 32), 3)).repeat(32, 0).repeat(32, 1)
        slope = np.linspace(-40, 40, width)[None, :, None] + rng.normal(0, 4, (height, width, 3))
        samples.append(np.clip(blocks[:height, :width] + slope, 0, 255).astype(np.uint8)[None])
    return samples


def check_prediction(name: str, prediction: Prediction, size_hw: tuple[int, int], num_classes: int) -> None:
    """Checks that a prediction of one picture can be one of the model.

    Raises:
        ServingError: its size, its classes or its confidences cannot be right.
    """
    masks_NHW, confidences_NHW = prediction.masks_NHW, prediction.confidences_NHW
    shape = (1, *size_hw)
    if masks_NHW.shape != shape or masks_NHW.dtype != np.uint8 or confidences_NHW.shape != shape:
        raise ServingError(f"{name}: gives {masks_NHW.shape} {masks_NHW.dtype} for a picture of {size_hw} px")
    if (highest := int(masks_NHW.max())) >= num_classes:
        raise ServingError(f"{name}: gives class {highest} and has {num_classes} classes")
    low, high = float(confidences_NHW.min()), float(confidences_NHW.max())
    if not (low >= 0 and high <= 1.0001):  # also false for NaN
        raise ServingError(f"{name}: gives confidences from {low} to {high}; its weights may be damaged")


@dataclass(frozen=True)
class Expected:
    """What torch predicted on the samples.

    Attributes:
        masks: one a sample, (1, height, width) uint8.
    """

    masks: tuple[npt.NDArray[np.uint8], ...]

    def write(self, folder: Path) -> None:
        """Writes them into a folder."""
        with (folder / SAMPLES_FILE).open("wb") as file:
            np.savez(file, *self.masks)

    @staticmethod
    def read(folder: Path) -> "Expected | None":
        """Reads what `write` wrote; None if the folder has none.

        Raises:
            ServingError: the file is damaged.
        """
        path = folder / SAMPLES_FILE
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return Expected(tuple(stored[f"arr_{number}"] for number in range(len(SIZES_HW))))
        except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ServingError(f"{path}: is damaged: {error}; delete it, or export the model again") from error

    def check(self, name: str, masks: list[npt.NDArray[np.uint8]]) -> None:
        """Compares another backend's masks with them.

        Raises:
            ServingError: they differ.
        """
        for ours, theirs in zip(self.masks, masks, strict=True):
            share = float((ours == theirs).mean())
            if share < MIN_EQUAL_SHARE:
                height, width = ours.shape[1:]
                raise ServingError(
                    f"{name}: {1 - share:.2%} of the pixels of a sample of {width}x{height} px differ from torch's; "
                    "serve it by `--backend torch`"
                )
