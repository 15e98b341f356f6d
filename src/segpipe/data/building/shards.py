"""Shards: the files of pixels that a store is made of, and what is counted in a sample while it is written."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.classes import ClassTable
from segpipe.data.inspection.fingerprint import fingerprint
from segpipe.data.masks.histogram import count_values
from segpipe.data.store import CLASS_COLUMN_PREFIX

MAX_SHARD_BYTES = 64 << 20
MEAN_RUN_LENGTH, MAX_RUN_LENGTH = 32, 128

Row = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A decoded sample to be written into a shard.

    Args:
        sample_id: its name.
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) uint8 class indices, void = 255.
    """

    sample_id: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


def split_into_runs(sample_ids: Sequence[str]) -> Iterator[range]:
    """Splits sorted samples into runs of neighbours, whose pixels share their shards.

    The hash of a sample's name decides whether a run ends after it: about every 32nd does. So the runs depend only on
    the names, and adding or removing a sample changes one run only: content-defined chunking (Muthitacharoen, Chen,
    Mazieres, "A low-bandwidth network file system", SOSP 2001), with names as content.
    """
    first = 0
    for index, sample_id in enumerate(sample_ids):
        hashed = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:4], "big")
        if hashed % MEAN_RUN_LENGTH == 0 or index + 1 - first == MAX_RUN_LENGTH:
            yield range(first, index + 1)
            first = index + 1
    if first < len(sample_ids):
        yield range(first, len(sample_ids))


def split_into_shards(sizes_bytes: Sequence[int]) -> Iterator[range]:
    """Splits a run's samples, by their sizes, into shards as `write_shards` does."""
    first, held_bytes = 0, 0
    for index, num_bytes in enumerate(sizes_bytes):
        if index > first and not _fits(held_bytes, num_bytes):
            yield range(first, index)
            first, held_bytes = index, 0
        held_bytes += num_bytes
    if first < len(sizes_bytes):
        yield range(first, len(sizes_bytes))


def _fits(held_bytes: int, num_bytes: int) -> bool:
    return held_bytes + num_bytes <= MAX_SHARD_BYTES


def write_shards(folder: Path, samples: Iterable[Sample], classes: ClassTable) -> list[Row]:
    """Writes a run's samples one after another, a new shard wherever one more would exceed `MAX_SHARD_BYTES`.

    A single sample may be larger than that. Never more than one sample is held in memory.

    Args:
        folder: takes the shards; exists. Others may write into it at the same time.
        samples: in the order of the run.
        classes: name the columns of counts.

    Returns:
        For each sample what the manifest says of it, without group and split.
    """
    rows: list[Row] = []
    open_shard: _OpenShard | None = None
    try:
        for sample in samples:
            num_bytes = sample.image.nbytes + sample.mask.nbytes
            if open_shard is not None and not _fits(open_shard.num_bytes, num_bytes):
                rows += open_shard.finish()
                open_shard = None
            if open_shard is None:
                open_shard = _OpenShard(folder, classes)
            open_shard.add(sample)
        if open_shard is not None:
            rows += open_shard.finish()
            open_shard = None
    finally:
        if open_shard is not None:
            open_shard.discard()
    return rows


class _OpenShard:
    """A shard that is being written under a temporary name."""

    def __init__(self, folder: Path, classes: ClassTable) -> None:
        self._folder, self._classes = folder, classes
        self._path = folder / f".{uuid.uuid4().hex}.part"
        self._file = self._path.open("wb")
        self._rows: list[Row] = []
        self.num_bytes = 0

    def add(self, sample: Sample) -> None:
        """Appends a sample's pixels."""
        image, mask = np.ascontiguousarray(sample.image), np.ascontiguousarray(sample.mask)
        described = describe(Sample(sample.sample_id, image, mask), self._classes)
        self._rows.append({**described, "offset": self.num_bytes})
        self._file.write(image.data)
        self._file.write(mask.data)
        self.num_bytes += image.nbytes + mask.nbytes

    def finish(self) -> list[Row]:
        """Gives the shard the name of its content, and its rows."""
        self._file.close()
        content = "".join(row["image_sha256"] + row["mask_sha256"] for row in self._rows)
        name = hashlib.sha256(content.encode()).hexdigest()[:32]
        self._path.replace(self._folder / f"{name}.bin")
        return [{**row, "shard": name} for row in self._rows]

    def discard(self) -> None:
        """Removes what was written."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def describe(sample: Sample, classes: ClassTable) -> Row:
    """Counts and hashes a sample's pixels.

    Returns:
        Columns of the manifest: id, size in px, sha256 of image and mask, perceptual hash, pixels of each class.
    """
    num_px = count_values(sample.mask)
    return {
        "sample_id": sample.sample_id,
        "height": sample.mask.shape[0],
        "width": sample.mask.shape[1],
        "image_sha256": hashlib.sha256(sample.image.data).hexdigest(),
        "mask_sha256": hashlib.sha256(sample.mask.data).hexdigest(),
        "perceptual_hash": fingerprint(sample.image),
        **{f"{CLASS_COLUMN_PREFIX}{name}": int(num_px[i]) for i, name in enumerate(classes.names)},
    }
