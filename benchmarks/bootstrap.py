"""The interval of the mean IoU at size: time and memory with sparse counts, next to dense matrices where these fit.

Made-up evaluations: each image has ten of 171 classes and is predicted as those and two others. Each image is a unit of
its own, which is the most work. The reference keeps a dense matrix for each image, and for each resample adds up the
matrices of all images. Both give the same value and, up to the chance of 2,000 resamples, the same
interval. Each row runs in a process of its own, so that the peak of the memory is its own.

    python benchmarks/bootstrap.py

The memory is the whole process's: Python, numpy and pandas take 0.15 GB of it.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt

from segpipe.metrics.parts.bootstrap import NUM_RESAMPLES, SEED, bundle, estimate_iou
from segpipe.metrics.parts.counts import CONFUSION_AXES, iou_of_sums, mean_over_classes
from segpipe.metrics.parts.image_counts import ImageCounts

NUM_CLASSES, NUM_TRUE, NUM_PREDICTED = 171, 10, 12
ROWS = (("dense", 500), ("sparse", 500), ("dense", 2_000), ("sparse", 2_000), ("sparse", 10_000), ("sparse", 100_000))


def make_counts(num_images: int) -> ImageCounts:
    """Draws an evaluation: of each image a table of 10 true and 12 predicted classes, most pixels right."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, NUM_CLASSES - NUM_PREDICTED, num_images)
    truth = first[:, None, None] + np.arange(NUM_TRUE)[None, :, None]
    predicted = first[:, None, None] + np.arange(NUM_PREDICTED)[None, None, :]
    pixels = rng.integers(0, 40, (num_images, NUM_TRUE, NUM_PREDICTED))
    pixels[:, range(NUM_TRUE), range(NUM_TRUE)] += rng.integers(100, 2000, (num_images, NUM_TRUE))
    is_any = pixels > 0
    image = np.broadcast_to(np.arange(num_images)[:, None, None], pixels.shape)[is_any]
    cell = (truth * NUM_CLASSES + predicted)[is_any]
    return ImageCounts(CONFUSION_AXES, (NUM_CLASSES, NUM_CLASSES), num_images, image, cell, pixels[is_any])


def estimate_densely(matrices_ICC: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Gives the mean IoU and the bootstrap's standard error, by sums of dense matrices."""
    num_images = len(matrices_ICC)
    rng = np.random.default_rng(SEED)
    flat = matrices_ICC.reshape(num_images, -1).astype(np.float64)

    def score(times_RI: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = (times_RI @ flat).reshape(-1, NUM_CLASSES, NUM_CLASSES)
        counts = np.stack([sums.diagonal(axis1=1, axis2=2), sums.sum(axis=2), sums.sum(axis=1)], axis=1)
        return mean_over_classes(iou_of_sums(counts))

    resampled = []
    for _ in range(0, NUM_RESAMPLES, 50):
        drawn = rng.integers(0, num_images, (50, num_images)) + num_images * np.arange(50)[:, None]
        times = np.bincount(drawn.ravel(), minlength=50 * num_images).reshape(50, num_images)
        resampled.append(score(times.astype(np.float64)))
    error = float(np.std(np.concatenate(resampled), ddof=1)) * (num_images / (num_images - 1)) ** 0.5
    return float(score(np.ones((1, num_images)))[0]), error


def measure(way: str, num_images: int) -> None:
    """Prints one row; the making of the counts is not timed, its memory counts."""
    counts = make_counts(num_images)
    matrices = counts.dense() if way == "dense" else None
    begin, begin_cpu = time.perf_counter(), time.process_time()
    if matrices is not None:
        value, error = estimate_densely(matrices)
        found = f"{value:.6f} +- {1.96 * error:.6f}"
    else:
        mean, _ = estimate_iou(counts, bundle([f"{image:06}" for image in range(num_images)]))
        found = f"{mean.value:.6f} +- {mean.high - mean.value:.6f}"
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"| {way} | {num_images:,} | {cpu_seconds:.1f} | {seconds:.1f} | {gigabytes:.2f} | {found} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", nargs=2, metavar=("WAY", "NUM_IMAGES"), help="prints one row only")
    options = parser.parse_args()
    if options.row:
        measure(options.row[0], int(options.row[1]))
        return
    print(
        "| way | images | CPU seconds | seconds | peak GB | mIoU |\n| --- | ---: | ---: | ---: | ---: | --- |",
        flush=True,
    )
    for way, num_images in ROWS:
        subprocess.run([sys.executable, __file__, "--row", way, str(num_images)], check=True)


if __name__ == "__main__":
    main()
