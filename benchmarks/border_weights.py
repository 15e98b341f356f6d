"""Time of U-Net's border weights for each frame: computed in the loss, computed the plain way, or stored by preprocess.

in the loss: `measure_closeness` as the loss calls it, all classes as objects, in one thread and in `--threads` threads.
plain: one distance transform over the whole frame for each object, with a running minimum of the two smallest
    distances (to sort a stack of all distances, as tutorials do, takes several times as long).
stored: a window of a zoom between 0.5 and 2 is cut from a memory-mapped map and resized (bilinear) to the frame; uint8
    is an 8-bit share of w0, float16 is widened first. The bytes come on top of the store's 4 a pixel.

It also measures the error of a stored map: the map is computed before the zoom, so its sigma is multiplied by the zoom.
The error is the mean absolute difference from the map of the zoomed mask, divided by the mean of that map.

Times are medians over rounds and frames; ratios are ratios of medians. Frames are rendered, or your own with --masks.

    python benchmarks/border_weights.py [--masks DIR] [--threads 2]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.border_map import NEGLIGIBLE, measure_closeness
from starter_data.rendered_set import write_rendered_set

HEIGHT, WIDTH, SIGMA_PX = 360, 480, 5.0
NUM_SEQUENCES, NUM_FRAMES, BATCH, NUM_ROUNDS = 4, 4, 4, 5
ZOOMS = (0.5, 1.0, 2.0)
STORE_BYTES_OF_FRAME = 4 * HEIGHT * WIDTH
IN_THE_LOSS = "in the loss, 1 thread"
LEVELS = 255

Mask = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def read_masks(folder: Path) -> list[Mask]:
    """Reads index masks and brings them to the frame's size."""
    masks = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as file:
            masks.append(zoom(np.asarray(file).astype(np.uint8), cv2.INTER_NEAREST))
    return masks


def zoom(array: Any, interpolation: int) -> Any:
    """Resizes a map or a mask to the frame."""
    return cv2.resize(array, (WIDTH, HEIGHT), interpolation=interpolation)


def draw_in_the_loss(masks: list[Mask]) -> Floats:
    """Gives (N, H, W): the product's own."""
    classes = set(np.unique(np.stack(masks)).tolist()) - {IGNORE_INDEX}
    closeness: Floats = measure_closeness(torch.from_numpy(np.stack(masks)).long(), classes, SIGMA_PX).numpy()
    return closeness


def draw_plainly(mask: Mask) -> Floats:
    """Gives (H, W): a distance transform of the whole frame for each object."""
    inner = cv2.erode(mask, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8))
    outer = cv2.dilate(mask, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8))
    is_border = (inner != mask) | (outer != mask)
    nearest, second = np.full((2, *mask.shape), np.inf, np.float32)
    for index in set(np.unique(mask).tolist()) - {IGNORE_INDEX}:
        num, labels = cv2.connectedComponents((mask == index).astype(np.uint8), connectivity=8)
        for label in range(1, num):
            is_off_border = ~((labels == label) & is_border)
            distance = cv2.distanceTransform(is_off_border.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    closeness: Floats = np.exp(-np.square(nearest + second) / (2 * SIGMA_PX**2))
    return closeness


def time_of(call: Callable[[], object]) -> float:
    """Gives milliseconds."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def window_of(size: float) -> tuple[slice, slice]:
    """Gives the window in the middle of a frame that a zoom of 1 / size fills the frame with."""
    height, width = round(size * HEIGHT), round(size * WIDTH)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    return slice(top, top + height), slice(left, left + width)


def read_stored(path: Path, dtype: str, number: int, rng: np.random.Generator) -> Floats:
    """Cuts a window of one map and resizes it to the frame."""
    maps = np.memmap(path, dtype, "r").reshape(-1, HEIGHT, WIDTH)
    cut = maps[number][window_of(rng.uniform(0.5, 1.0))]
    resized = zoom(cut if dtype == "uint8" else cut.astype(np.float32), cv2.INTER_LINEAR)
    closeness: Floats = resized.astype(np.float32) / np.float32(LEVELS if dtype == "uint8" else 1)
    return closeness


def write_maps(maps: Floats, dtype: str, folder: Path) -> Path:
    """Stores all maps in one file."""
    path = folder / dtype
    (np.round(LEVELS * maps) if dtype == "uint8" else maps).astype(dtype).tofile(path)
    return path


def measure_ways(masks: list[Mask], maps: Floats, num_threads: int, folder: Path) -> dict[str, float]:
    """Gives each way's median milliseconds a frame; the ways take turns, batch after batch."""
    paths = {dtype: write_maps(maps, dtype, folder) for dtype in ("uint8", "float16")}
    rng = np.random.default_rng(0)

    def draw(numbers: range, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        draw_in_the_loss([masks[number] for number in numbers])

    ways: dict[str, Callable[[range], object]] = {
        IN_THE_LOSS: lambda numbers: draw(numbers, 1),
        f"in the loss, {num_threads} threads": lambda numbers: draw(numbers, num_threads),
        "plain": lambda numbers: [draw_plainly(masks[number]) for number in numbers],
        "stored, uint8": lambda numbers: [read_stored(paths["uint8"], "uint8", n, rng) for n in numbers],
        "stored, float16": lambda numbers: [read_stored(paths["float16"], "float16", n, rng) for n in numbers],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(NUM_ROUNDS):
        for first in range(0, len(masks) - BATCH + 1, BATCH):
            numbers = range(first, first + BATCH)
            for name, way in ways.items():
                times[name].append(time_of(partial(way, numbers)) / BATCH)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_error(masks: list[Mask], size: float) -> float:
    """Gives how far a stored map lies from the map of the zoomed mask, in shares of its mean."""
    window = window_of(min(size, 1 / size))
    if size < 1:  # a window fills the frame
        stored = np.stack([zoom(one[window], cv2.INTER_LINEAR) for one in draw_in_the_loss(masks)])
        true = draw_in_the_loss([zoom(mask[window], cv2.INTER_NEAREST) for mask in masks])
    else:  # the frame fills a window
        height, width = (part.stop - part.start for part in window)
        small = [cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) for mask in masks]
        stored = np.stack([cv2.resize(one, (width, height)) for one in draw_in_the_loss(masks)])
        true = draw_in_the_loss([np.asarray(mask) for mask in small])
    return float(np.abs(stored - true).mean() / true.mean())


def main() -> None:
    """Prints the table and the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, help="a folder of index masks, .png")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.masks is None:
            list(write_rendered_set(folder, 0, NUM_SEQUENCES, NUM_FRAMES, 6, HEIGHT, WIDTH))
        masks = read_masks(options.masks or folder / "masks")
        maps = draw_in_the_loss(masks)
        plain = np.stack([draw_plainly(mask) for mask in masks])
        np.testing.assert_allclose(maps, np.where(maps > 0, plain, 0), rtol=1e-4)
        assert plain[maps == 0].max(initial=0) < NEGLIGIBLE * (1 + 1e-4)
        times = measure_ways(masks, maps, options.threads, folder)
    print(f"{len(masks)} frames of {HEIGHT}x{WIDTH}, batches of {BATCH}, median of {NUM_ROUNDS} rounds\n")
    for name, figure in times.items():
        num_bytes = HEIGHT * WIDTH * {"stored, uint8": 1, "stored, float16": 2}.get(name, 0)
        print(
            f"{name:24s} {figure:8.2f} ms a frame   {figure / times[IN_THE_LOSS]:7.3f} of in the loss   "
            f"{num_bytes:7d} bytes a frame ({num_bytes / STORE_BYTES_OF_FRAME:+.0%} of the store)"
        )
    errors = "   ".join(f"zoom {1 / size:g}: {measure_error(masks, size):.0%}" for size in ZOOMS)
    print(f"\na stored map is off by, of the mean  {errors}")


if __name__ == "__main__":
    main()
