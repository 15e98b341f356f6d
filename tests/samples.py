"""Small stores and sources for tests: samples as pixels, written as `preprocess` and as a person would write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.config.preprocess import Preprocess
from segpipe.data.building import shards
from segpipe.data.building.build import Built, build_store
from segpipe.data.masks.labels import IndexMask, plain_indices
from segpipe.data.sources.source import RawSample, Source
from segpipe.data.store import SHARDS, Store, write_manifest
from segpipe.files import sha256_of_file

LICENCE = "made for a test"


@dataclass(frozen=True)
class Sample:
    """A labelled image with its place in the set: (H, W, 3) uint8 RGB and (H, W) uint8."""

    sample_id: str
    group: str
    split: str
    image: np.ndarray
    mask: np.ndarray


def write_store(folder: Path, classes: ClassTable, samples: Sequence[Sample]) -> Store:
    """Writes samples, in their order, into an existing empty folder, and opens the store."""
    (folder / SHARDS).mkdir()
    pixels = (shards.Sample(sample.sample_id, sample.image, sample.mask) for sample in samples)
    manifest = pd.DataFrame(shards.write_shards(folder / SHARDS, pixels, classes))
    manifest = manifest.assign(group=[s.group for s in samples], split=[s.split for s in samples])
    write_manifest(folder, manifest, classes, LICENCE)
    return Store.open(folder)


def write_source(root: Path, classes: ClassTable, samples: Sequence[Sample]) -> Source:
    """Writes samples as PNG pairs below `root`, where they may stand already, and gives what a reader would find."""
    meaning = plain_indices(classes.num_classes)
    raw = []
    for sample in samples:
        image, mask = (root / folder / f"{sample.sample_id}.png" for folder in ("images", "masks"))
        for path, pixels in ((image, sample.image), (mask, sample.mask)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, compress_level=1)
        raw.append(RawSample(sample.sample_id, image, IndexMask(mask, meaning), sample.split, sample.group))
    return Source(classes, tuple(raw), (), LICENCE)


def build(source: Source, root: Path, output: Path, cache: Path | None = None, **settings: Any) -> Built:
    """Builds a store into a new folder, as `preprocess` does; by default its splits are those that the source knows."""
    output.mkdir()
    files = {path for sample in source.samples for path in (sample.image, *sample.label.files)}
    preprocess = Preprocess.model_validate({"split": {"val": "source", "test": "source"}} | settings)
    return build_store(source, root, preprocess, output, {path: sha256_of_file(path) for path in files}, cache)


def content_of(folder: Path) -> dict[str, bytes]:
    """Gives the content of each file below a folder by its path within it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
