"""Shows that colour alone does not solve the starter data: compares the best colour classifier with the network.

There are two classifiers of single pixels, and the better one counts. The first has 32 levels a channel: for each of
the 32^3 cells it takes the most frequent class among the training pixels. The second is scikit-learn's gradient
boosting on RGB and HSV, in case a smooth boundary generalises better. Both are trained on the train split and measured
on val and test with the same confusion matrix as the network. The network's scores are read from build/evaluation: run
`dvc repro` first.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from segpipe.data.store import Store
from segpipe.metrics import mean_iou as metric
from segpipe.metrics.parts.counts import confusions_of

LEVELS = 32
NUM_BOOSTED_PX = 300_000

Bytes = npt.NDArray[np.uint8]
Predict = Callable[[Bytes], Bytes]


def labelled_pixels(store: Store) -> tuple[Bytes, Bytes]:
    """Gives the colours (num_px, 3) and classes (num_px,) of all labelled pixels."""
    colors, labels = [], []
    for index in range(len(store)):
        image, mask = store.read(index)
        is_labelled = mask < store.classes.num_classes
        colors.append(image[is_labelled])
        labels.append(mask[is_labelled])
    return np.concatenate(colors), np.concatenate(labels)


def cell_of(colors: Bytes) -> npt.NDArray[np.int64]:
    """Gives the cell of the colour cube for each of (num_px, 3) colours."""
    red, green, blue = (colors // (256 // LEVELS)).astype(np.int64).T
    cells: npt.NDArray[np.int64] = (red * LEVELS + green) * LEVELS + blue
    return cells


def fit_histogram(colors: Bytes, labels: Bytes, num_classes: int) -> Predict:
    """Takes the most frequent class of each cell; in an empty cell the most frequent of all."""
    counts = np.zeros((LEVELS**3, num_classes), np.int64)
    np.add.at(counts, (cell_of(colors), labels), 1)
    winner = np.where(counts.any(axis=1), counts.argmax(axis=1), np.bincount(labels).argmax()).astype(np.uint8)
    return lambda some: winner[cell_of(some)]


def features_of(colors: Bytes) -> npt.NDArray[np.float32]:
    """Gives RGB and HSV of (num_px, 3) colours as (num_px, 6)."""
    hsv = cv2.cvtColor(colors[None], cv2.COLOR_RGB2HSV)[0]
    return np.concatenate([colors, hsv], axis=1).astype(np.float32)


def fit_boosting(colors: Bytes, labels: Bytes) -> Predict:
    """Fits gradient boosting on a sample of the pixels."""
    chosen = np.random.default_rng(0).choice(len(labels), min(len(labels), NUM_BOOSTED_PX), replace=False)
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0)
    model.fit(features_of(colors[chosen]), labels[chosen])
    return lambda some: np.asarray(model.predict(features_of(some)), np.uint8)


def mean_iou(predict: Predict, store: Store) -> float:
    """Measures a classifier on a split."""
    colors, labels = labelled_pixels(store)
    num_classes = store.classes.num_classes
    pair = labels.astype(np.int64) * num_classes + predict(colors)
    counts = np.bincount(pair, minlength=num_classes**2)
    return metric.compute(confusions_of(counts.reshape(1, num_classes, num_classes)))


def main() -> None:
    """Prints both figures for both splits."""
    store = Store.open(Path("build/dataset"))
    metrics = json.loads(Path("build/evaluation/metrics.json").read_text(encoding="utf-8"))
    colors, labels = labelled_pixels(store.of_split("train"))
    histogram = fit_histogram(colors, labels, store.classes.num_classes)
    boosting = fit_boosting(colors, labels)
    print("mIoU              colour histogram  colour boosting  network  colour/network")
    for split in metrics:
        part = store.of_split(split)
        scores = [mean_iou(histogram, part), mean_iou(boosting, part)]
        network = metrics[split]["mean_iou"]
        print(f"{split:16s}  {scores[0]:16.3f}  {scores[1]:15.3f}  {network:7.3f}  {max(scores) / network:14.2f}")


if __name__ == "__main__":
    main()
