"""The training-ready store: every sample decoded once, checked once, counted once.

    shards/NAME.bin     uint8 pixels of some samples one after another: of each the image (height, width, 3) RGB, then
                        the mask (height, width) of class indices, void = 255; named by its content
    manifest.parquet    one row a sample: where its pixels lie, split, group, hashes, pixels of each class
    dataset.json        class table, licence, digest of the whole, sha256 of the manifest

Shards are memory-mapped: a crop reads only its own pages, threads share them, and memory stays flat. Which samples
share a shard depends only on their names (`segpipe.data.building.shards`), so new samples do not change most files.
"""

import hashlib
import json
import mmap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segpipe.classes import ClassTable
from segpipe.errors import StoreError
from segpipe.files import sha256_of_file

MANIFEST, DATASET_FILE, SHARDS = "manifest.parquet", "dataset.json", "shards"
TRAIN, VAL, TEST = "train", "val", "test"
CLASS_COLUMN_PREFIX, ATTRIBUTE_COLUMN_PREFIX = "num_px_", "attribute_"
MAX_NUM_MAPS = 256  # each holds a file open
NUM_VERIFYING_THREADS = 4
HASHED_BYTES = 1 << 24


def write_manifest(folder: Path, manifest: pd.DataFrame, classes: ClassTable, licence: str) -> None:
    """Makes a store of a folder that holds the shards: writes its manifest and its description.

    Args:
        folder: the store's.
        manifest: one row a sample: what `write_shards` gave, `group` and `split`.
        classes: the class table.
        licence: the terms under which the images may be used.
    """
    manifest.to_parquet(folder / MANIFEST, index=False)
    description = {
        "classes": classes.to_json(),
        "licence": licence,
        "digest": digest_of(manifest, classes),
        "sha256": {MANIFEST: sha256_of_file(folder / MANIFEST)},
    }
    (folder / DATASET_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def digest_of(manifest: pd.DataFrame, classes: ClassTable) -> str:
    """Identifies a set of labelled samples by its content: pixels, masks and class names, not file names.

    Returns:
        32 hexadecimal digits (MLflow takes at most 36).
    """
    lines = sorted(manifest["split"] + " " + manifest["image_sha256"] + " " + manifest["mask_sha256"])
    return hashlib.sha256("\n".join([classes.digest, *lines]).encode()).hexdigest()[:32]


def read_manifest(folder: Path) -> tuple[pd.DataFrame, ClassTable]:
    """Reads and verifies a store's manifest and class table; does not read the pixels.

    Raises:
        StoreError: a file is missing or has changed since it was written.
    """
    manifest, description = _read_description(folder)
    return manifest, ClassTable.from_json(description["classes"])


def _read_description(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        description: dict[str, Any] = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
        if sha256_of_file(folder / MANIFEST) != description["sha256"][MANIFEST]:
            _refuse_changed(folder, [MANIFEST])
        manifest = pd.read_parquet(folder / MANIFEST)
        if digest_of(manifest, ClassTable.from_json(description["classes"])) != description["digest"]:
            _refuse_changed(folder, [DATASET_FILE])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder}: is not a data set: {error}; run `dvc repro preprocess`") from error
    return manifest, description


def _refuse_changed(folder: Path, wrong: Sequence[str]) -> None:
    if wrong:
        fix = f"delete {folder} and its entry in the cache, then run `dvc repro --force preprocess`"
        raise StoreError(f"{folder}: {', '.join(wrong)} changed since preprocess wrote it; {fix}")


def changed_shards(folder: Path, manifest: pd.DataFrame) -> list[str]:
    """Finds the shards that are missing or whose pixels differ from the hashes of the manifest.

    Args:
        folder: holds the shards.
        manifest: with the columns shard, offset, height, width, image_sha256, mask_sha256.

    Returns:
        Their names, sorted.
    """

    def is_changed(rows: pd.DataFrame) -> bool:
        try:
            with (folder / f"{rows['shard'].iat[0]}.bin").open("rb") as file:
                return not all(_is_as_written(file, row) for row in rows.itertuples())
        except OSError:  # not there, or the system cannot read it
            return True

    shards = [rows for _, rows in manifest.groupby("shard")]
    with ThreadPoolExecutor(NUM_VERIFYING_THREADS) as pool:
        is_wrong = list(pool.map(is_changed, shards))
    return [str(rows["shard"].iat[0]) for rows, wrong in zip(shards, is_wrong, strict=True) if wrong]


def _is_as_written(file: Any, row: Any) -> bool:
    file.seek(row.offset)
    num_px = int(row.height) * int(row.width)
    for num_bytes, expected in ((3 * num_px, row.image_sha256), (num_px, row.mask_sha256)):
        digest = hashlib.sha256()
        while num_bytes and (block := file.read(min(num_bytes, HASHED_BYTES))):
            digest.update(block)
            num_bytes -= len(block)
        if digest.hexdigest() != expected:
            return False
    return True


@dataclass(frozen=True)
class Store:
    """A store opened for reading.

    Args:
        classes: the class table.
        digest: of all samples.
        manifest: one row a sample.
        folder: holds the shards.
    """

    classes: ClassTable
    digest: str
    manifest: pd.DataFrame
    folder: Path
    _places: tuple[tuple[str, int, int, int], ...] = field(init=False, repr=False, compare=False)
    _map: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        columns = [self.manifest[name].tolist() for name in ("shard", "offset", "height", "width")]
        object.__setattr__(self, "_places", tuple(zip(*columns, strict=True)))
        object.__setattr__(self, "_map", lru_cache(MAX_NUM_MAPS)(self._map_shard))

    @staticmethod
    def open(folder: Path) -> "Store":
        """Opens a store and verifies each file: no model may be trained on a damaged cache.

        Raises:
            StoreError: a file is missing or has changed since it was written.
        """
        manifest, description = _read_description(folder)
        wrong = [f"{SHARDS}/{name}.bin" for name in changed_shards(folder / SHARDS, manifest)]
        _refuse_changed(folder, wrong)
        return Store(ClassTable.from_json(description["classes"]), description["digest"], manifest, folder)

    def of_split(self, split: str) -> "Store":
        """The same store with the samples of one split only, and the digest of these."""
        manifest = self.manifest[self.manifest["split"] == split].reset_index(drop=True)
        return Store(self.classes, digest_of(manifest, self.classes), manifest, self.folder)

    def by_content(self) -> "Store":
        """The same samples in an order that depends on their pixels alone, not on their names."""
        manifest = self.manifest.sort_values(["image_sha256", "mask_sha256"], kind="stable", ignore_index=True)
        return Store(self.classes, self.digest, manifest, self.folder)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.manifest)

    def _map_shard(self, name: str) -> npt.NDArray[np.uint8]:
        with (self.folder / SHARDS / f"{name}.bin").open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Gives views of a sample's (height, width, 3) image and (height, width) mask; they cannot be written to."""
        shard, start, height, width = self._places[index]
        data = self._map(shard)
        end = start + 3 * height * width
        image = data[start:end].reshape(height, width, 3)
        return image, data[end : end + height * width].reshape(height, width)

    def num_px(self) -> npt.NDArray[np.int64]:
        """Gives the labelled pixels of each class in each sample, (num_samples, num_classes)."""
        return num_px_of_classes(self.manifest, self.classes)


def num_px_of_classes(manifest: pd.DataFrame, classes: ClassTable) -> npt.NDArray[np.int64]:
    """Gives the labelled pixels of each class in each row of a manifest, (num_rows, num_classes)."""
    return manifest[[f"{CLASS_COLUMN_PREFIX}{name}" for name in classes.names]].to_numpy(np.int64)


def evenly_spread(num_samples: int, num_chosen: int) -> list[int]:
    """Gives the indices of `num_chosen` samples, evenly spread: always the same for the same split."""
    num_chosen = min(num_samples, num_chosen)
    return [(2 * i + 1) * num_samples // (2 * num_chosen) for i in range(num_chosen)]
