"""The time of `preprocess` compared with decoding the files, and its growth with the number of samples.

    python benchmarks/preprocess.py decode  SOURCE   class counts and all checks, and decoding alone, in one process
    python benchmarks/preprocess.py camvid  SOURCE   a cold build in two processes, then ten images more, and decoding
    python benchmarks/preprocess.py growth           2,000 and 20,000 samples: time and peak memory

SOURCE is a folder in CamVid's layout (the archive unpacked). `--png` first writes its images as PNG, which is how the
public archive holds them. Every figure is the median of the rounds; peer and ours take turns.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from segpipe.choices import READERS
from segpipe.config.preprocess import Preprocess
from segpipe.data.building.build import build_store
from segpipe.data.masks.histogram import count_values
from segpipe.data.sources.source import Source

NUM_PROCESSES = 2
NUM_NEW = 10
SIZES = (2_000, 20_000)
GROWTH_HW = (96, 128)
SETTINGS = Preprocess.model_validate({"group_pattern": "^([^_]+)_", "split": {"val": "source", "test": "source"}})


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """Gives the median time of a piece of work."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def decode_files(paths: Sequence[Path]) -> None:
    """Decodes files as a classic loader does."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image)


def files_of(source: Source) -> tuple[list[Path], list[Path]]:
    """Gives the files of images and of masks."""
    return [sample.image for sample in source.samples], [sample.label.files[0] for sample in source.samples]


def build(source: Source, root: Path, hashes: dict[Path, str], cache: Path | None) -> int:
    """Builds a store in a temporary folder; gives how many samples were decoded."""
    with tempfile.TemporaryDirectory() as folder:
        return build_store(source, root, SETTINGS, Path(folder), hashes, cache).num_decoded


def hash_files(root: Path) -> dict[Path, str]:
    """Gives the sha256 of each file, as the download stage notes it."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*")) if path.is_file()}


def compare_decode(root: Path, rounds: int) -> None:
    """Class counts next to the decoding of the masks they are counted in."""
    cv2.setNumThreads(0)  # as in a worker
    source: Source = READERS.call("camvid", root=root)
    masks = files_of(source)[1]

    def decode_and_count() -> None:
        for path in masks:
            with Image.open(path) as image:
                count_values(np.asarray(image))

    decode_files(masks)  # brings the files into the page cache
    decoding, both = [], []
    for _ in range(rounds):
        decoding.append(median_seconds(lambda: decode_files(masks), 1))
        both.append(median_seconds(decode_and_count, 1))
    peer, ours = statistics.median(decoding), statistics.median(both)
    print(f"masks decoded {peer:.3f} s, decoded and counted {ours:.3f} s: ratio {ours / peer:.3f}")


def compare_camvid(root: Path, rounds: int) -> None:
    """Cold and incremental builds next to decoding all files in as many processes."""
    source: Source = READERS.call("camvid", root=root)
    hashes = hash_files(root)
    images, masks = files_of(source)
    files = [*images, *masks]
    less = dataclasses.replace(source, samples=tuple(s for i, s in enumerate(source.samples) if i % 70 or not i))
    parts = [files[i :: 8 * NUM_PROCESSES] for i in range(8 * NUM_PROCESSES)]
    decoding, cold, more = [], [], []
    with Parallel(NUM_PROCESSES) as pool:
        pool(delayed(decode_files)([]) for _ in range(NUM_PROCESSES))
        for _ in range(rounds):
            decoding.append(median_seconds(lambda: pool(delayed(decode_files)(part) for part in parts), 1))
            with tempfile.TemporaryDirectory() as cache:
                cold.append(median_seconds(lambda: build(less, root, hashes, Path(cache)), 1))
                more.append(median_seconds(lambda: build(source, root, hashes, Path(cache)), 1))
    peer, ours = statistics.median(decoding), statistics.median(cold)
    print(f"{len(files)} files decoded in {NUM_PROCESSES} processes: {peer:.2f} s")
    print(f"cold build: {ours:.2f} s, ratio {ours / peer:.2f}")
    num_new = len(source.samples) - len(less.samples)
    print(f"{num_new} images more, spread over all sequences: {statistics.median(more):.2f} s")


def write_png(root: Path, output: Path) -> Path:
    """Copies a source with its images as PNG."""
    shutil.copytree(root, output)
    for path in sorted(output.rglob("*.jpg")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    for path in output.rglob("*.txt"):
        path.write_text(path.read_text(encoding="utf-8").replace(".jpg", ".png"), encoding="utf-8")
    return output


def write_growth_source(folder: Path, num_samples: int) -> None:
    """Cuts windows out of the starter's rendered frames, all different."""
    data = Path("data")
    names = sorted(path.stem for path in (data / "images").iterdir())
    frames = [
        (np.asarray(Image.open(data / f"images/{name}.jpg")), np.asarray(Image.open(data / f"masks/{name}.png")))
        for name in names
    ]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    shutil.copyfile(data / "dataset.yaml", folder / "dataset.yaml")
    rng = np.random.default_rng(0)
    height, width = GROWTH_HW
    for number in range(num_samples):
        image, mask = frames[number % len(frames)]
        y, x = rng.integers(image.shape[0] - height), rng.integers(image.shape[1] - width)
        name = f"{names[number % len(frames)].split('_')[0]}v{number // 1000}_{number:06d}"
        Image.fromarray(image[y : y + height, x : x + width]).save(folder / f"images/{name}.jpg")
        Image.fromarray(mask[y : y + height, x : x + width]).save(folder / f"masks/{name}.png")


def measure_growth(rounds: int) -> None:
    """Time and peak memory of builds in one process, each in a process of its own."""
    results = {}
    for num_samples in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write_growth_source(Path(folder) / "source", num_samples)
            command = [sys.executable, __file__, "build", f"{folder}/source"]
            environment = {**os.environ, "SEGPIPE_WORKERS": "1"}
            runs = []
            for _ in range(rounds):
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                runs.append(json.loads(done.stdout))
        seconds, peak_mb = (statistics.median(column) for column in zip(*runs, strict=True))
        results[num_samples] = seconds, peak_mb
        each = f"{1000 * seconds / num_samples:.2f} ms each"
        print(f"{num_samples} samples: {seconds:.1f} s ({each}), peak {peak_mb:.0f} MB")
    few, many = (results[size] for size in SIZES)
    factor = SIZES[1] / SIZES[0]
    print(
        f"{factor:.0f} times the samples: time {many[0] / few[0] / factor:.2f} of linear, peak {many[1] / few[1]:.2f}"
    )


def build_once(root: Path) -> None:
    """Builds as the stage does, and prints seconds and peak memory (MB)."""
    source: Source = READERS.call("folder", root=root)
    settings = Preprocess.model_validate({"group_pattern": "^([^_]+)_", "split": {"val": 0.1, "test": 0.1}})
    hashes = hash_files(root)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        build_store(source, root, settings, Path(folder), hashes, Path(cache))
        seconds = time.perf_counter() - start
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak_kb = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps([seconds, peak_kb / 1000]))


def main() -> None:
    """Runs one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["decode", "camvid", "growth", "build"])
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--png", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.what == "growth":
        measure_growth(options.rounds)
    elif options.what == "build":
        build_once(options.source)
    else:
        compare = {"decode": compare_decode, "camvid": compare_camvid}[options.what]
        with tempfile.TemporaryDirectory() as folder:
            root = write_png(options.source, Path(folder) / "png") if options.png else options.source
            compare(root, options.rounds)


if __name__ == "__main__":
    main()
