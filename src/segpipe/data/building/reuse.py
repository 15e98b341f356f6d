"""The store that was built last, kept outside the folder that DVC empties before each run.

Its shards are hard links. Its manifest has one more column: the key of each sample, which identifies what its pixels
were made from. A sample with the same key is taken over.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import cv2
import pandas as pd

from segpipe.classes import ClassTable
from segpipe.code import PACKAGE, digest_of_code
from segpipe.data.building.decoding import Place
from segpipe.data.building.shards import Row, split_into_shards
from segpipe.data.sources.source import RawSample
from segpipe.data.store import (
    ATTRIBUTE_COLUMN_PREFIX,
    DATASET_FILE,
    MANIFEST,
    SHARDS,
    changed_shards,
    read_manifest,
    write_manifest,
)
from segpipe.documents import DECIDES_NOTHING, ImageMapping
from segpipe.errors import StoreError
from segpipe.files import whole_folder

KEY = "key"
LIBRARIES = ("numpy", "pillow", "pycocotools", "scipy")  # and OpenCV, which is installed under several names


def find_keys(
    samples: Sequence[RawSample],
    sha256: Mapping[Path, str],
    classes: ClassTable,
    mapping: ImageMapping = DECIDES_NOTHING,
) -> dict[str, str]:
    """Gives each sample's key: a hash of its files' content, its label's meaning, and the code that reads them.

    Args:
        samples: of a source.
        sha256: of the source's files.
        classes: name the columns of counts.
        mapping: how the values of image files become 8-bit RGB.

    Returns:
        The key by the sample's id, of the samples whose files are all in `sha256`.
    """
    reading = [PACKAGE / "classes.py", PACKAGE / "data/store.py"]
    for room in ("images", "sources", "readers", "masks", "inspection", "building"):
        reading += (PACKAGE / "data" / room).rglob("*.py")
    code = digest_of_code(reading)
    common = repr((code, cv2.__version__, [version(name) for name in LIBRARIES], classes.names, mapping))
    prefix = hashlib.sha256(common.encode())
    keys = {}
    for sample in samples:
        files = [sample.image, *sample.label.files]
        if all(path in sha256 for path in files):
            key = prefix.copy()
            key.update(repr([*(sha256[path] for path in files), sample.label.key]).encode())
            keys[sample.sample_id] = key.hexdigest()
    return keys


class LastStore:
    """The store that was built last.

    Args:
        folder: of the cache; it need not exist.
        keys: of the samples that are wanted now; only their pixels are verified.
    """

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self._folder = folder
        self._rows: dict[str, Row] = {}
        self._shards: dict[tuple[str | None, ...], tuple[Row, ...]] = {}
        try:
            manifest, _ = read_manifest(folder)
        except StoreError:
            return  # none, or one that was being written when its process ended
        if KEY not in manifest:
            return  # a store, but not one that `keep_store` made
        # A sample with findings has None instead of a key: it is read again.
        wanted = set(manifest.loc[manifest[KEY].isin(set(keys)), "shard"])
        manifest = manifest[manifest["shard"].isin(wanted)]
        damaged = changed_shards(folder / SHARDS, manifest)
        manifest = manifest[~manifest["shard"].isin(damaged)].sort_values(["shard", "offset"])
        of_the_set = [KEY, "group", "split", *(n for n in manifest if str(n).startswith(ATTRIBUTE_COLUMN_PREFIX))]
        held_keys = [key if isinstance(key, str) else None for key in manifest[KEY]]
        records = manifest.drop(columns=of_the_set).to_dict("records")
        rows = [{str(name): value for name, value in record.items()} for record in records]
        self._rows = {key: row for key, row in zip(held_keys, rows, strict=True) if key is not None}
        # Equal runs share a shard; each has rows of its own.
        is_first = ~manifest.duplicated(["shard", "offset"])
        once = [(key, row) for key, row, first in zip(held_keys, rows, is_first, strict=True) if first]
        for _, held in groupby(once, lambda pair: pair[1]["shard"]):
            shard_keys, shard_rows = zip(*held, strict=True)
            self._shards[shard_keys] = shard_rows

    def place_of(self, key: str | None) -> Place | None:
        """Where the pixels of a sample with this key lie."""
        row = None if key is None else self._rows.get(key)
        return None if row is None else Place(self._folder, row)

    def take_over(self, sample_ids: Sequence[str], keys: Sequence[str | None], output: Path) -> list[Row] | None:
        """Links the shards of a run into a new store, if writing the run again would give the same shards.

        Args:
            sample_ids: of the run.
            keys: of its samples.
            output: folder of the new store.

        Returns:
            What the manifest says of each sample; None if something is new or would lie elsewhere.
        """
        places = [self.place_of(key) for key in keys]
        sizes_bytes = [4 * int(place.row["height"]) * int(place.row["width"]) for place in places if place is not None]
        if len(sizes_bytes) < len(places):
            return None
        shards = [self._shards.get(tuple(keys[i] for i in part)) for part in split_into_shards(sizes_bytes)]
        rows: list[Row] = []
        for held in shards:
            if held is None:
                return None
            rows += held
        for shard in {row["shard"] for row in rows}:
            _link(self._folder / SHARDS / f"{shard}.bin", output / SHARDS / f"{shard}.bin")
        return [{**row, "sample_id": sample_id} for sample_id, row in zip(sample_ids, rows, strict=True)]


def keep_store(folder: Path, output: Path, manifest: pd.DataFrame, classes: ClassTable, licence: str) -> None:
    """Replaces the kept store by a new one; the old one is removed only when the new one is complete.

    Args:
        folder: of the cache.
        output: folder of the new store.
        manifest: its own, with the column `key`.
        classes: the class table.
        licence: of the source.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    shards = {f"{name}.bin" for name in manifest["shard"]}
    for name in shards:
        _link(output / SHARDS / name, folder / SHARDS / name)
    with whole_folder(folder / "new") as new:
        write_manifest(new, manifest, classes, licence)
    # Between these two the cache is not intact, which its next reader notices: all is decoded again.
    for name in (MANIFEST, DATASET_FILE):
        (folder / "new" / name).replace(folder / name)
    (folder / "new").rmdir()
    for path in (folder / SHARDS).iterdir():
        if path.name not in shards:
            path.unlink()


def _link(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return  # removing it first could lose it if the process ends there
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
