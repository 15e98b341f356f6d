"""The search for images that look alike, against the hashes of imagehash: which copies are found, which others are.

Half of a set of images are the training split. The validation split holds changed copies of these (one of each change)
and the other half, unchanged, of which no image is a copy. A method reports for each image of the validation split the
image of the training split that is nearest, if it is near enough. Recall is the share of the copies whose original is
reported, precision the share of the reports that name the original.

segpipe: `find_leaks`, with its own limits. imagehash: 64 bits, nearest by the Hamming distance, up to a limit of bits;
each hash is shown with 8 bits, a usual limit, and with the limit that gives it the best F1 on these very images, which
favours it. A mirrored copy is not among what imagehash searches for, so it has a column but no part in the mean recall.

Seconds: of one core, hashing and search together, for each image of the validation split.

The images are rendered streets, one frame each, or those of --images.

    python benchmarks/near_duplicates.py [--images DIR] [--number 200]
"""

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from segpipe.data.inspection.fingerprint import fingerprint
from segpipe.data.splits.leaks import find_leaks
from starter_data.rendered_set import write_rendered_set

HEIGHT, WIDTH = 192, 256
MAX_BITS, USUAL_BITS = 24, 8
MIRRORED = "mirrored"
Pixels = npt.NDArray[np.uint8]


def compress(image: Pixels) -> Pixels:
    """JPEG of quality 30."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=30)
    return np.asarray(Image.open(buffer), np.uint8)


def shrink(image: Pixels) -> Pixels:
    """Half of the size."""
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


def crop(image: Pixels, share: float) -> Pixels:
    """Takes a share of height and width off, more at the top left."""
    height, width = image.shape[:2]
    top, left = round(0.7 * share * height), round(0.7 * share * width)
    return image[top : top + round((1 - share) * height), left : left + round((1 - share) * width)]


def brighten(image: Pixels) -> Pixels:
    """Gamma 0.7."""
    return np.asarray((255 * (image / 255) ** 0.7).round(), np.uint8)


def add_noise(image: Pixels) -> Pixels:
    """Gaussian noise of 10 grey levels."""
    noise = np.random.default_rng(0).normal(0, 10, image.shape)
    return np.asarray((image + noise).round().clip(0, 255), np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG 30": compress,
    "half size": shrink,
    "gamma 0.7": brighten,
    "noise": add_noise,
    "crop 5%": lambda image: crop(image, 0.05),
    "crop 10%": lambda image: crop(image, 0.10),
    MIRRORED: lambda image: np.ascontiguousarray(image[:, ::-1]),
}


@dataclass(frozen=True)
class Query:
    """An image of the validation split.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        change: what was done to it; "" for an image that is no copy.
        original: place of its original in the training split; -1 for none.
    """

    image: Pixels
    change: str
    original: int


def make_queries(originals: Sequence[Pixels], others: Sequence[Pixels]) -> list[Query]:
    """Gives a copy of each original by each change, and the others."""
    copies = [
        Query(change(image), name, place) for name, change in CHANGES.items() for place, image in enumerate(originals)
    ]
    return [*copies, *(Query(image, "", -1) for image in others)]


def search_by_segpipe(originals: Sequence[Pixels], queries: Sequence[Query]) -> list[int]:
    """Gives for each query the place of the original that the leak gate reports; -1 for none."""
    images = [*originals, *(query.image for query in queries)]
    manifest = pd.DataFrame(
        {
            "sample_id": [str(number) for number in range(len(images))],
            "group": [str(number) for number in range(len(images))],
            "split": ["train"] * len(originals) + ["val"] * len(queries),
            "height": [image.shape[0] for image in images],
            "width": [image.shape[1] for image in images],
            "image_sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
            "mask_sha256": [str(number) for number in range(len(images))],
            "perceptual_hash": [fingerprint(image) for image in images],
        }
    )
    found = [-1] * len(queries)
    for leak in find_leaks(manifest, images.__getitem__):
        if leak.kind in {"leak-near", "leak-exact"}:
            held_out, other = max(leak.first, leak.second), min(leak.first, leak.second)
            found[held_out - len(originals)] = other
    return found


def search_by_hash(
    make_hash: Callable[[Image.Image], imagehash.ImageHash], originals: Sequence[Pixels], queries: Sequence[Query]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Gives for each query the place of the nearest original, and the number of bits that differ."""
    known = np.array([make_hash(Image.fromarray(image)).hash.ravel() for image in originals])
    asked = np.array([make_hash(Image.fromarray(query.image)).hash.ravel() for query in queries])
    distances = np.array([(known != bits).sum(axis=1) for bits in asked])
    return distances.argmin(axis=1), distances.min(axis=1)


@dataclass(frozen=True)
class Score:
    """How good a search was.

    Attributes:
        recall: by change.
        precision: of all reports.
    """

    recall: dict[str, float]
    precision: float

    @property
    def mean_recall(self) -> float:
        """Over all changes but mirroring."""
        return float(np.mean([value for change, value in self.recall.items() if change != MIRRORED]))

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and mean recall."""
        total = self.precision + self.mean_recall
        return 2 * self.precision * self.mean_recall / total if total else 0.0


def score(found: Sequence[int], queries: Sequence[Query]) -> Score:
    """Scores a search by the original of each query."""
    recall = {
        change: float(np.mean([got == q.original for got, q in zip(found, queries, strict=True) if q.change == change]))
        for change in CHANGES
    }
    reports = [got == query.original for got, query in zip(found, queries, strict=True) if got >= 0]
    return Score(recall, float(np.mean(reports)) if reports else 1.0)


def read_images(folder: Path, number: int) -> list[Pixels]:
    """Reads so many images, evenly spread over the names."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    chosen = [paths[round(place)] for place in np.linspace(0, len(paths) - 1, min(number, len(paths)))]
    return [np.asarray(Image.open(path).convert("RGB"), np.uint8) for path in chosen]


def render_images(number: int) -> list[Pixels]:
    """Renders a frame of each of so many streets."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in write_rendered_set(Path(folder), 7, number, 1, 6, HEIGHT, WIDTH):
            pass
        return read_images(Path(folder) / "images", number)


def tell(name: str, result: Score, seconds: float) -> None:
    """Prints a row of the table."""
    recall = " | ".join(f"{value:.2f}" for value in result.recall.values())
    print(
        f"| {name} | {recall} | {result.mean_recall:.3f} | {result.precision:.3f} | {1000 * seconds:.1f} |", flush=True
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description="Near duplicates, against imagehash.")
    parser.add_argument("--images", type=Path, help="folder of images, no two of one scene; default: rendered streets")
    parser.add_argument("--number", type=int, default=200, help="images, half of them originals (default 200)")
    options = parser.parse_args()
    images = read_images(options.images, options.number) if options.images else render_images(options.number)
    originals, others = images[::2], images[1::2]
    queries = make_queries(originals, others)
    print(f"{len(originals)} originals, {len(queries) - len(others)} copies, {len(others)} others")
    print(f"| method | {' | '.join(CHANGES)} | mean recall | precision | ms an image |")
    print(f"| --- |{' ---: |' * (len(CHANGES) + 3)}")
    start = time.process_time()
    result = score(search_by_segpipe(originals, queries), queries)
    tell("segpipe", result, (time.process_time() - start) / len(queries))
    hashes = (imagehash.phash, imagehash.dhash, imagehash.whash, imagehash.average_hash)
    for make_hash in hashes:
        start = time.process_time()
        nearest, distance = search_by_hash(make_hash, originals, queries)
        seconds = (time.process_time() - start) / len(queries)

        def within(
            bits: int, nearest: npt.NDArray[np.int64] = nearest, distance: npt.NDArray[np.int64] = distance
        ) -> Score:
            return score(np.where(distance <= bits, nearest, -1).tolist(), queries)

        best = max(range(MAX_BITS + 1), key=lambda bits: within(bits).f1)
        for bits, kind in ((USUAL_BITS, "usual limit"), (best, "its best limit")):
            tell(f"imagehash {make_hash.__name__}, {bits} bits ({kind})", within(bits), seconds)


if __name__ == "__main__":
    main()
