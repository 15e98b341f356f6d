"""Training samples a second from our loader, from two usual loaders, and from copying alone.

All draw a zoom between 0.5 and 2, a crop of 360x480 and a flip, from the same frames, in one process, in turn.

torchvision: PIL decodes PNG files; torchvision's reference presets for segmentation (RandomResize, flip, RandomCrop).
albumentations: cv2 decodes PNG files; RandomScale, RandomCrop, HorizontalFlip, ColorJitter, Normalize.
ours: the memory-mapped store, with as many threads as the product uses, and with one.
copy: a sample's image and mask from the store into a batch, in one thread; no loader can be faster.

Figures are medians over rounds; ratios are ratios of medians. Frames are rendered, or your own with --images and
--masks.
"""

import segpipe.stages  # noqa: F401  # isort: skip  # sets OpenMP's wait policy before torch is loaded
import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from segpipe.choices import AUGMENTATIONS
from segpipe.classes import ClassTable
from segpipe.config.augment import Augment
from segpipe.data.building import shards
from segpipe.data.loading import loader as loader_module
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import SHARDS, Store, write_manifest
from segpipe.inference.device import keep_freed_memory
from segpipe.inference.logits import normalize
from segpipe.training.prefetch import send_ahead
from starter_data import CLASS_COLORS, CLASS_NAMES
from starter_data.rendered_set import write_rendered_set

HEIGHT, WIDTH, BATCH = 360, 480, 8
NUM_SEQUENCES, NUM_FRAMES = 6, 16
NUM_ROUNDS, ROUND_SECONDS = 5, 2.0
NUM_CALLS = 60
JITTER = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05}
GEOMETRY = {"crop": [HEIGHT, WIDTH], "scale": [0.5, 2.0]}
FLIP = {"name": "flip", "probability": 0.5}
# What stands in one file here against what the library offers for it.
TWINS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "color_jitter": (JITTER, "ColorJitter", {**{k: (1 - v, 1 + v) for k, v in JITTER.items()}, "hue": (-0.05, 0.05)}),
    "blur": ({"sigma_px": [0.3, 1.5]}, "GaussianBlur", {"sigma_limit": (0.3, 1.5), "blur_limit": 0}),
    "noise": ({"sigma": [3, 12]}, "GaussNoise", {"std_range": (3 / 255, 12 / 255)}),
    "flip": ({}, "HorizontalFlip", {}),
}
Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Files:
    """The same frames as files and as a store."""

    pairs: list[tuple[str, str]]
    store: Store


def write_files(folder: Path, pairs: Iterator[Pair], classes: ClassTable) -> Files:
    """Writes frames as PNG files and as a store."""
    samples, paths = [], []
    for number, (image, mask) in enumerate(pairs):
        names = str(folder / f"{number:05d}_image.png"), str(folder / f"{number:05d}_mask.png")
        for name, array in zip(names, (image, mask), strict=True):
            Image.fromarray(array).save(name)
        paths.append(names)
        samples.append(shards.Sample(f"{number:05d}", image, mask))
    (folder / "store" / SHARDS).mkdir(parents=True)
    rows = shards.write_shards(folder / "store" / SHARDS, iter(samples), classes)
    manifest = pd.DataFrame(rows).assign(group="all", split="train")
    write_manifest(folder / "store", manifest, classes, licence="of the frames")
    return Files(paths, Store.open(folder / "store"))


def rendered_pairs(folder: Path) -> Iterator[Pair]:
    """Renders street scenes."""
    for path in write_rendered_set(folder, 0, NUM_SEQUENCES, NUM_FRAMES, 6, HEIGHT, WIDTH):
        yield _read(path, folder / "masks" / f"{path.stem}.png")


def own_pairs(images: Path, masks: Path) -> Iterator[Pair]:
    """Reads images and their index masks of the same names."""
    for path in sorted(images.iterdir()):
        yield _read(path, masks / f"{path.stem}.png")


def _read(image: Path, mask: Path) -> Pair:
    with Image.open(image) as opened_image, Image.open(mask) as opened_mask:
        return np.asarray(opened_image.convert("RGB")), np.asarray(opened_mask).astype(np.uint8)


def torchvision_batches(pairs: list[tuple[str, str]]) -> Iterator[Any]:
    """As `references/segmentation/presets.py` of torchvision does with PIL images, without the float at its end."""
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional as F

    rng = np.random.default_rng(0)
    while True:
        images, masks = [], []
        for index in rng.integers(len(pairs), size=BATCH):
            with Image.open(pairs[index][0]) as file:
                image = file.convert("RGB")
            with Image.open(pairs[index][1]) as file:
                mask = file.copy()
            size = int(rng.integers(HEIGHT // 2, 2 * HEIGHT + 1))
            image = F.resize(image, [size], antialias=True)
            mask = F.resize(mask, [size], interpolation=v2.InterpolationMode.NEAREST)
            if rng.random() < 0.5:
                image, mask = F.hflip(image), F.hflip(mask)
            missing = [0, 0, max(0, WIDTH - image.width), max(0, HEIGHT - image.height)]
            if any(missing):
                image, mask = F.pad(image, missing, fill=0), F.pad(mask, missing, fill=255)
            top, left = (int(rng.integers(n + 1)) for n in (image.height - HEIGHT, image.width - WIDTH))
            images.append(F.pil_to_tensor(F.crop(image, top, left, HEIGHT, WIDTH)))
            masks.append(F.pil_to_tensor(F.crop(mask, top, left, HEIGHT, WIDTH)))
        yield torch.stack(images), torch.stack(masks)


def albumentations_batches(pairs: list[tuple[str, str]]) -> Iterator[Any]:
    """The usual loader of notebooks: cv2 and one Compose, with float at its end."""
    import albumentations as A

    compose = A.Compose(
        [
            A.RandomScale(scale_limit=(-0.5, 1.0), p=1.0),
            A.PadIfNeeded(HEIGHT, WIDTH, fill_mask=255),
            A.RandomCrop(HEIGHT, WIDTH),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(**TWINS["color_jitter"][2], p=1.0),
            A.Normalize(),
        ]
    )
    rng = np.random.default_rng(0)
    while True:
        made = []
        for index in rng.integers(len(pairs), size=BATCH):
            image = cv2.cvtColor(cv2.imread(pairs[index][0]), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
            made.append(compose(image=image, mask=cv2.imread(pairs[index][1], cv2.IMREAD_GRAYSCALE)))
        images = np.stack([sample["image"] for sample in made])
        yield torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(np.stack([s["mask"] for s in made]))


def our_batches(store: Store, transforms: list[dict[str, Any]], num_threads: int) -> Iterator[Any]:
    """The product's loader, epoch after epoch."""
    loader = TrainLoader(store, Augment.model_validate({**GEOMETRY, "transforms": transforms}), BATCH, 0)
    epoch = 0
    while True:
        # Read again by each epoch: contenders take turns.
        loader_module.NUM_LOADING_THREADS = num_threads
        yield from loader.batches(epoch)
        epoch += 1


def our_normalized_batches(store: Store, num_threads: int) -> Iterator[Any]:
    """The same with colour jitter, and normalised on the CPU as a training there does it."""
    batches = our_batches(store, [FLIP, {"name": "color_jitter", "options": JITTER}], num_threads)
    for batch in send_ahead(batches, torch.device("cpu")):
        yield normalize(batch.images_NHWC), batch.masks_NHW


def copied_batches(store: Store) -> Iterator[Any]:
    """Copies image and mask of each sample into a batch, unchanged."""
    rng = np.random.default_rng(0)
    images, masks = np.empty((BATCH, HEIGHT, WIDTH, 3), np.uint8), np.empty((BATCH, HEIGHT, WIDTH), np.uint8)
    while True:
        for place, index in enumerate(rng.integers(len(store), size=BATCH).tolist()):
            image, mask = store.read(index)
            np.copyto(images[place], image)
            np.copyto(masks[place], mask)
        yield images, masks


def samples_per_second(batches: Iterator[Any]) -> float:
    """Draws for about ROUND_SECONDS."""
    cv2.setNumThreads(2)
    num_batches, started = 0, time.perf_counter()
    while time.perf_counter() - started < ROUND_SECONDS:
        next(batches)
        num_batches += 1
    return num_batches * BATCH / (time.perf_counter() - started)


def measure_loaders(files: Files) -> dict[str, float]:
    """Gives each contender's median over the rounds."""
    num_threads = loader_module.NUM_LOADING_THREADS
    makers: dict[str, Callable[[], Iterator[Any]]] = {
        "torchvision, uint8": lambda: torchvision_batches(files.pairs),
        f"ours, uint8, {num_threads} threads": lambda: our_batches(files.store, [FLIP], num_threads),
        "ours, uint8, 1 thread": lambda: our_batches(files.store, [FLIP], 1),
        "albumentations, jitter, float": lambda: albumentations_batches(files.pairs),
        f"ours, jitter, float, {num_threads} threads": lambda: our_normalized_batches(files.store, num_threads),
        "ours, jitter, float, 1 thread": lambda: our_normalized_batches(files.store, 1),
        "copy": lambda: copied_batches(files.store),
    }
    figures: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(NUM_ROUNDS):
        for name, make in makers.items():
            batches = make()
            next(batches)  # imports, first pages, threads
            figures[name].append(samples_per_second(batches))
            del batches  # ends its threads before the next one's turn
    return {name: statistics.median(values) for name, values in figures.items()}


def measure_twins(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
    """Prints microseconds of each transform against the library's, in one thread."""
    cv2.setNumThreads(0)
    for name, (options, library_name, library_options) in TWINS.items():
        adapter = {"transform": library_name, "options": library_options}
        both = [AUGMENTATIONS.call(name, options), AUGMENTATIONS.call("albumentations", adapter)]
        seconds: list[list[float]] = [[], []]
        rng = np.random.default_rng(0)
        for _ in range(NUM_CALLS):
            for transform, taken in zip(both, seconds, strict=True):
                copies = image.copy(), mask.copy()
                started = time.perf_counter()
                transform(*copies, rng, None)
                taken.append(time.perf_counter() - started)
        ours, library = (1e6 * statistics.median(taken) for taken in seconds)
        print(f"{name:14s} {ours:8.0f} us   albumentations {library:8.0f} us   ratio {library / ours:5.1f}")


def main() -> None:
    """Prints the table of loaders and that of transforms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help=f"a folder of images of {HEIGHT}x{WIDTH}")
    parser.add_argument("--masks", type=Path, help="a folder of their index masks, .png, of the same names")
    options = parser.parse_args()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    keep_freed_memory()  # as a training does; it serves the peers as well
    classes = ClassTable(tuple(CLASS_NAMES), tuple(CLASS_COLORS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = own_pairs(options.images, options.masks) if options.images else rendered_pairs(folder / "frames")
        files = write_files(folder, own, classes)
        print(f"{len(files.pairs)} frames of {HEIGHT}x{WIDTH}, {os.cpu_count()} cores, median of {NUM_ROUNDS} rounds\n")
        figures = measure_loaders(files)
        for contender, figure in figures.items():
            peer = figures["albumentations, jitter, float" if "float" in contender else "torchvision, uint8"]
            of_copy = figure / figures["copy"]
            print(f"{contender:32s} {figure:8.0f}/s   {figure / peer:6.1f}x its peer   {of_copy:6.1%} of copy")
        print()
        measure_twins(*(array.copy() for array in files.store.read(0)))


if __name__ == "__main__":
    main()
