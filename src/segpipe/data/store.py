"""The training-ready store: every sample decoded once, checked once, counted once.

    images.bin          uint8 RGB pixels of all samples, one after another, each (height, width, 3)
    masks.bin           uint8 class indices, void = 255, each (height, width)
    manifest.parquet    one row a sample: where its pixels lie, split, group, hashes, pixels of each class
    dataset.json        class table, digest of the whole, sha256 of the files above

The pixel files are memory-mapped: a crop reads only its own pages, threads share them, and memory stays flat.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.errors import StoreError
from segpipe.files import sha256_of_file

IMAGES, MASKS, MANIFEST, DESCRIPTION = "images.bin", "masks.bin", "manifest.parquet", "dataset.json"
CLASS_COLUMN_PREFIX, VOID_COLUMN = "num_px_", "num_void_px"
SAMPLE_COLUMNS = (
    "sample_id", "group", "split", "height", "width", "image_offset", "mask_offset",
    "image_sha256", "mask_sha256", "perceptual_hash",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A decoded sample on its way into the store.

    Args:
        sample_id: its name.
        group: the sequence it belongs to.
        split: 'train', 'val' or 'test'.
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8 class indices, void = 255.
    """

    sample_id: str
    group: str
    split: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


def difference_hash(image: npt.NDArray[np.uint8]) -> int:
    """Gives a 64-bit perceptual hash: which of 8x8 coarse cells is darker than its right neighbour.

    Source: N. Krawetz's dHash, 2013. Two hashes that differ in a few bits only are of images that look alike.

    Args:
        image: (height, width, 3) uint8 RGB.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def write_store(folder: Path, classes: ClassTable, samples: Iterable[Sample]) -> pd.DataFrame:
    """Writes samples into an existing empty folder, one at a time.

    Returns:
        The manifest.
    """
    rows: list[dict[str, Any]] = []
    image_offset = mask_offset = 0
    with (folder / IMAGES).open("wb") as image_file, (folder / MASKS).open("wb") as mask_file:
        for sample in samples:
            height, width = sample.mask.shape
            image_bytes, mask_bytes = sample.image.tobytes(), sample.mask.tobytes()
            num_px = np.bincount(sample.mask.ravel(), minlength=256)
            rows.append(
                {
                    "sample_id": sample.sample_id,
                    "group": sample.group,
                    "split": sample.split,
                    "height": height,
                    "width": width,
                    "image_offset": image_offset,
                    "mask_offset": mask_offset,
                    "image_sha256": hashlib.sha256(image_bytes).hexdigest(),
                    "mask_sha256": hashlib.sha256(mask_bytes).hexdigest(),
                    "perceptual_hash": f"{difference_hash(sample.image):016x}",
                    **{f"{CLASS_COLUMN_PREFIX}{name}": num_px[i] for i, name in enumerate(classes.names)},
                    VOID_COLUMN: num_px[IGNORE_INDEX],
                }
            )
            image_file.write(image_bytes)
            mask_file.write(mask_bytes)
            image_offset += len(image_bytes)
            mask_offset += len(mask_bytes)
    manifest = pd.DataFrame(rows, columns=_columns(classes))
    manifest.to_parquet(folder / MANIFEST, index=False)
    description = {
        "classes": classes.to_json(),
        "digest": digest_of(manifest, classes),
        "sha256": {name: sha256_of_file(folder / name) for name in (IMAGES, MASKS, MANIFEST)},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return manifest


def _columns(classes: ClassTable) -> list[str]:
    return [*SAMPLE_COLUMNS, *(f"{CLASS_COLUMN_PREFIX}{name}" for name in classes.names), VOID_COLUMN]


def digest_of(manifest: pd.DataFrame, classes: ClassTable) -> str:
    """Identifies a set of labelled samples by its content: pixels, masks and class names, whatever the files' names.

    Returns:
        32 hexadecimal digits (MLflow takes at most 36).
    """
    lines = sorted(manifest["split"] + " " + manifest["image_sha256"] + " " + manifest["mask_sha256"])
    return hashlib.sha256("\n".join([classes.digest, *lines]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Store:
    """A store opened for reading.

    Args:
        classes: the class table.
        digest: of all samples.
        manifest: one row a sample.
        image_bytes: memory map of the images' file.
        mask_bytes: memory map of the masks' file.
    """

    classes: ClassTable
    digest: str
    manifest: pd.DataFrame
    image_bytes: npt.NDArray[np.uint8]
    mask_bytes: npt.NDArray[np.uint8]

    @staticmethod
    def open(folder: Path) -> "Store":
        """Opens a store and verifies that each file is what was written: a damaged cache must not train a model.

        Raises:
            StoreError: a file is missing or has another content.
        """
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            wrong = [name for name, sha in description["sha256"].items() if sha256_of_file(folder / name) != sha]
            classes = ClassTable.from_json(description["classes"])
            manifest = pd.read_parquet(folder / MANIFEST)
            if not wrong and digest_of(manifest, classes) != description["digest"]:
                wrong = [DESCRIPTION]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder}: is no data set: {error}; run `dvc repro preprocess`") from error
        if wrong:
            mend = f"delete {folder} and its entry in the cache, then run `dvc repro --force preprocess`"
            raise StoreError(f"{folder}: {', '.join(wrong)} changed since preprocess wrote it; {mend}")
        return Store(
            classes=classes,
            digest=description["digest"],
            manifest=manifest,
            image_bytes=np.memmap(folder / IMAGES, np.uint8, mode="r"),
            mask_bytes=np.memmap(folder / MASKS, np.uint8, mode="r"),
        )

    def of_split(self, split: str) -> "Store":
        """The same store with the samples of one split only, and the digest of these."""
        manifest = self.manifest[self.manifest["split"] == split].reset_index(drop=True)
        return Store(self.classes, digest_of(manifest, self.classes), manifest, self.image_bytes, self.mask_bytes)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.manifest)

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Gives views of a sample's (height, width, 3) image and (height, width) mask."""
        columns = ("height", "width", "image_offset", "mask_offset")
        height, width, image_start, mask_start = (int(self.manifest[name].to_numpy()[index]) for name in columns)
        num_px = height * width
        image = self.image_bytes[image_start : image_start + 3 * num_px].reshape(height, width, 3)
        return image, self.mask_bytes[mask_start : mask_start + num_px].reshape(height, width)

    def num_px(self) -> npt.NDArray[np.int64]:
        """Gives the labelled pixels of each class in each sample, (num_samples, num_classes)."""
        return num_px_of_classes(self.manifest, self.classes)


def num_px_of_classes(manifest: pd.DataFrame, classes: ClassTable) -> npt.NDArray[np.int64]:
    """Gives the labelled pixels of each class in each row of a manifest, (num_rows, num_classes)."""
    return manifest[[f"{CLASS_COLUMN_PREFIX}{name}" for name in classes.names]].to_numpy(np.int64)
