"""Compares formats for the store: throughput, random access, size, and bytes that new samples rewrite.

Each format holds the same labelled frames as raw uint8, so that only the format is measured; PNG files are the usual
way. Training reads crops, evaluation reads whole samples. The order is random, files are in the page cache. `new MB` is
the size of the files whose content changes when one sequence of ten frames is added: a content-addressed cache (DVC's)
must store them again.

    python benchmarks/store_formats.py [--frames 400] [--rounds 5]
"""

import argparse
import hashlib
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import webdataset
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.data.building.shards import Sample, split_into_runs, write_shards
from segpipe.data.store import SHARDS, Store, write_manifest

HEIGHT, WIDTH, CROP = 360, 480, 256
FRAMES_OF_SEQUENCE, NUM_NEW = 40, 10
SHARD_FRAMES = 32
CLASSES = ClassTable(("a", "b"), ((0, 0, 0), (255, 255, 255)))

Pixels = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
Read = Callable[[int], Pixels]


@dataclass(frozen=True)
class Format:
    """One way of keeping samples.

    Attributes:
        name: in the table.
        write: samples into a folder.
        open: gives a function from a sample's number to its pixels; views where the format has them.
    """

    name: str
    write: Callable[[Path, list[Sample]], None]
    open: Callable[[Path, list[Sample]], Read]


def make_samples(num_frames: int) -> list[Sample]:
    """Draws frames that compress about as photographs do: smooth colours with some noise, masks of blocks."""
    samples = []
    for number in range(num_frames):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noisy = (image + rng.integers(-6, 7, image.shape)).clip(0, 255).astype(np.uint8)
        mask = rng.integers(0, 2, (HEIGHT // 40, WIDTH // 40), np.uint8).repeat(40, 0).repeat(40, 1)
        name = f"sequence{number // FRAMES_OF_SEQUENCE:03d}_{number % FRAMES_OF_SEQUENCE:03d}"
        samples.append(Sample(name, noisy, mask))
    return samples


def pack(sample: Sample) -> bytes:
    """Gives a sample's image and mask as bytes, one after the other."""
    return sample.image.tobytes() + sample.mask.tobytes()


def unpack(data: npt.NDArray[np.uint8]) -> Pixels:
    """Gives views of what `pack` joined."""
    end = 3 * HEIGHT * WIDTH
    return data[:end].reshape(HEIGHT, WIDTH, 3), data[end:].reshape(HEIGHT, WIDTH)


def write_ours(folder: Path, samples: list[Sample]) -> None:
    """The store of the product."""
    (folder / SHARDS).mkdir()
    ids = [sample.sample_id for sample in samples]
    runs = [[samples[i] for i in run] for run in split_into_runs(ids)]
    rows = [row for run in runs for row in write_shards(folder / SHARDS, run, CLASSES)]
    manifest = pd.DataFrame(rows).assign(group="g", split="train")
    write_manifest(folder, manifest, CLASSES, licence="none")


def open_ours(folder: Path, samples: list[Sample]) -> Read:
    """Memory maps of the shards."""
    return Store.open(folder).read


def write_lmdb(folder: Path, samples: list[Sample]) -> None:
    """One value a sample in a B+ tree."""
    with lmdb.open(str(folder), map_size=1 << 36) as environment, environment.begin(write=True) as transaction:
        for sample in samples:
            transaction.put(sample.sample_id.encode(), pack(sample))


def open_lmdb(folder: Path, samples: list[Sample]) -> Read:
    """Buffers into LMDB's own memory map."""
    transaction = lmdb.open(str(folder), readonly=True, lock=False).begin(buffers=True)

    def read(i: int) -> Pixels:
        value = transaction.get(samples[i].sample_id.encode())
        assert value is not None
        return unpack(np.frombuffer(value, np.uint8))

    return read


def write_arrow(folder: Path, samples: list[Sample]) -> None:
    """Arrow IPC files of about as many samples as a shard, one record batch a sample."""
    schema = pa.schema([("pixels", pa.large_binary())])
    for first in range(0, len(samples), SHARD_FRAMES):
        with pa.OSFile(str(folder / f"{first:06d}.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for sample in samples[first : first + SHARD_FRAMES]:
                writer.write_batch(pa.record_batch([pa.array([pack(sample)], pa.large_binary())], schema=schema))


def open_arrow(folder: Path, samples: list[Sample]) -> Read:
    """Memory-mapped record batches."""
    files = [pa.ipc.open_file(pa.memory_map(str(path))) for path in sorted(folder.glob("*.arrow"))]

    def read(i: int) -> Pixels:
        batch = files[i // SHARD_FRAMES].get_batch(i % SHARD_FRAMES)
        return unpack(np.frombuffer(batch.column(0)[0].as_buffer(), np.uint8))

    return read


def write_webdataset(folder: Path, samples: list[Sample]) -> None:
    """Tar files of about as many samples as a shard."""
    for first in range(0, len(samples), SHARD_FRAMES):
        with webdataset.TarWriter(str(folder / f"{first:06d}.tar"), mtime=0) as sink:
            for sample in samples[first : first + SHARD_FRAMES]:
                sink.write({"__key__": sample.sample_id, "bin": pack(sample)})


def open_webdataset(folder: Path, samples: list[Sample]) -> Read:
    """Members of the tars; the format is made for reading in order, so an index of the members is built first."""
    archives = [tarfile.open(path) for path in sorted(folder.glob("*.tar"))]  # noqa: SIM115
    members = [(archive, member) for archive in archives for member in archive.getmembers()]

    def read(i: int) -> Pixels:
        archive, member = members[i]
        file = archive.extractfile(member)
        assert file is not None
        return unpack(np.frombuffer(file.read(), np.uint8))

    return read


def write_png(folder: Path, samples: list[Sample]) -> None:
    """Two PNG files a sample."""
    for sample in samples:
        Image.fromarray(sample.image).save(folder / f"{sample.sample_id}.png")
        Image.fromarray(sample.mask).save(folder / f"{sample.sample_id}_mask.png")


def open_png(folder: Path, samples: list[Sample]) -> Read:
    """Decodes at each reading."""

    def read(i: int) -> Pixels:
        name = samples[i].sample_id
        data = ((folder / f"{name}{end}.png").read_bytes() for end in ("", "_mask"))
        image, mask = (np.asarray(Image.open(io.BytesIO(content))) for content in data)
        return image, mask

    return read


FORMATS = (
    Format("ours", write_ours, open_ours),
    Format("LMDB", write_lmdb, open_lmdb),
    Format("Arrow IPC", write_arrow, open_arrow),
    Format("WebDataset", write_webdataset, open_webdataset),
    Format("PNG files", write_png, open_png),
)


def hashes_of(folder: Path) -> dict[str, int]:
    """Gives the size of each content that a content-addressed cache would hold."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock.mdb"]
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_size for path in files}


def time_reads(read: Read, num_frames: int, crop: int | None, rounds: int) -> float:
    """Gives samples a second, median over the rounds: each sample once in random order, copied as a batch needs it."""
    speeds = []
    for number in range(rounds):
        rng = np.random.default_rng(number)
        order = rng.permutation(num_frames)
        start = time.perf_counter()
        for i in order:
            image, mask = read(int(i))
            if crop is not None:
                y, x = int(rng.integers(HEIGHT - crop)), int(rng.integers(WIDTH - crop))
                image, mask = image[y : y + crop, x : x + crop], mask[y : y + crop, x : x + crop]
            np.array(image), np.array(mask)
        speeds.append(num_frames / (time.perf_counter() - start))
    return statistics.median(speeds)


def measure(num_frames: int, rounds: int) -> Iterator[str]:
    """Gives the table's rows."""
    yield f"{'format':12} {'crops/s':>9} {'ratio':>6} {'whole/s':>9} {'ratio':>6} {'MB':>7} {'new MB':>7} {'files':>6}"
    samples = make_samples(num_frames + NUM_NEW)
    # The new frames are between the old ones, like a new sequence among sorted names.
    new_ids = {f"sequence{num_frames // FRAMES_OF_SEQUENCE // 2:03d}x_{i:03d}" for i in range(NUM_NEW)}
    new = [Sample(i, s.image, s.mask) for i, s in zip(sorted(new_ids), samples[num_frames:], strict=True)]
    old = samples[:num_frames]
    reference: tuple[float, float] | None = None
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as before, tempfile.TemporaryDirectory() as after:
            kind.write(Path(before), old)
            kind.write(Path(after), sorted([*old, *new], key=lambda sample: sample.sample_id))
            known, now = hashes_of(Path(before)), hashes_of(Path(after))
            num_new_bytes = sum(size for content, size in now.items() if content not in known)
            read = kind.open(Path(before), old)
            np.testing.assert_array_equal(read(num_frames - 1)[0], old[-1].image)
            speeds = time_reads(read, num_frames, CROP, rounds), time_reads(read, num_frames, None, rounds)
            reference = reference or speeds
            ratios = [ours / theirs for ours, theirs in zip(reference, speeds, strict=True)]
            yield (
                f"{kind.name:12} {speeds[0]:9.0f} {ratios[0]:6.2f} {speeds[1]:9.0f} {ratios[1]:6.2f} "
                f"{sum(known.values()) / 1e6:7.1f} {num_new_bytes / 1e6:7.1f} {len(known):6d}"
            )


def main() -> None:
    """Prints the table; a ratio is our speed over the format's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for line in measure(options.frames, options.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
