"""Measures the network on the splits that it was not trained on."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from segpipe.config.evaluate import Evaluate
from segpipe.data.store import DATASET_FILE, Store
from segpipe.documents import EvaluationDescription, ModelDescription
from segpipe.errors import StoreError
from segpipe.files import whole_folder, write_json
from segpipe.inference.device import choose_device, keep_freed_memory, make_repeatable
from segpipe.inference.evaluate import Evaluation, evaluate
from segpipe.inference.network import Network
from segpipe.losses.cross_entropy import build_loss
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.bootstrap import bundle, estimate_mean_iou
from segpipe.metrics.parts.scores import evaluation_digest, list_evidence, score
from segpipe.places import (
    DATASET,
    EVALUATION,
    EVALUATION_FILE,
    METRICS_FILE,
    MODEL,
    MODEL_FILE,
    PER_IMAGE_FILE,
    REPORT_FILE,
)
from segpipe.reports.confusion import ShownPair, draw_confusion_matrix, find_most_confused, show_pair
from segpipe.reports.curves import draw_curves
from segpipe.reports.evaluation import DatasetSummary, Drawings, SplitScores, write_evaluation_report
from segpipe.reports.figures import give_percent
from segpipe.reports.headline import write_headline
from segpipe.reports.overlay import side_by_side
from segpipe.reports.samples import ShownSample, choose_by_score, show_prediction
from segpipe.stages.stage import run_stage

SPLITS = ("val", "test")
NUM_PAIRS = 4  # most confused pairs that are drawn


def main(settings: Evaluate) -> None:
    """Writes `evaluation/`: metrics, a confusion matrix for each image, plots, report; and `metrics.json` for Git."""
    keep_freed_memory()
    make_repeatable(seed=0, num_threads=settings.num_threads)
    network = Network.load(MODEL, choose_device(settings.device))
    model = ModelDescription.read(MODEL / MODEL_FILE, "run `dvc repro train`")
    store = Store.open(DATASET)
    if store.classes.names != network.classes.names:
        raise StoreError(f"the classes of {MODEL} differ from those of {DATASET}; run `dvc repro train`")
    stores = {split: store.of_split(split) for split in SPLITS if (store.manifest["split"] == split).any()}
    unweighted = [(1.0, build_loss(class_weights=torch.ones(store.classes.num_classes)))]
    kinds = list_evidence()
    evaluations = {split: evaluate(network.module, part, unweighted, kinds) for split, part in stores.items()}
    metrics = {split: _score(stores[split], evaluation) for split, evaluation in evaluations.items()}
    identity = _identify(network, stores)
    with whole_folder(EVALUATION) as output:
        write_json(output / METRICS_FILE, metrics)
        write_json(output / EVALUATION_FILE, identity.to_json())
        rows = {split: _per_image(stores[split], evaluation) for split, evaluation in evaluations.items()}
        pd.concat(rows.values()).to_parquet(output / PER_IMAGE_FILE, index=False)
        by_class = pd.DataFrame({split: scores["iou"] for split, scores in metrics.items()})
        by_class.to_csv(output / "iou.csv", index_label="class")
        confusions = {split: evaluation.confusions.sum(axis=0) for split, evaluation in evaluations.items()}
        draw_confusion_matrix(confusions["val"], store.classes, output / "confusion_matrix.png")
        samples = [
            sample
            for split, part in stores.items()
            for sample in _draw_samples(network, part, rows[split], settings.num_overlays, output)
        ]
        pairs = _draw_pairs(network, stores["val"], evaluations["val"], settings.num_overlays)
        scores = [SplitScores(split, len(part), metrics[split], confusions[split]) for split, part in stores.items()]
        curves = draw_curves(MODEL / "history", model.best_epoch)
        drawn = Drawings(curves, samples, pairs)
        write_evaluation_report(output, model, identity, scores, _summarize(), drawn)
    write_headline(metrics)


def _identify(network: Network, stores: dict[str, Store]) -> EvaluationDescription:
    """Gives the digests of weights, classes and images: scores with equal digests may be compared."""
    return EvaluationDescription(
        weights_sha256=network.weights_sha256,
        class_table=network.classes.digest,
        evaluation_digest=evaluation_digest(stores["val"].digest),
    )


def _score(store: Store, evaluation: Evaluation) -> dict[str, object]:
    """All scores of a split, and the 95% interval of its mIoU (null where there are too few images)."""
    estimate = estimate_mean_iou(evaluation.confusions, bundle(store.manifest["group"].tolist()))
    low, high = (None if math.isnan(bound) else bound for bound in (estimate.low, estimate.high))
    scores = score(evaluation.evidence, store.classes.names)
    return {**scores, "mean_iou_low": low, "mean_iou_high": high, "loss": evaluation.loss}


def _per_image(store: Store, evaluation: Evaluation) -> pd.DataFrame:
    """One row a sample: its confusion matrix, rows of truth one after another, for statistics over groups."""
    rows = store.manifest[["sample_id", "group", "split", "image_sha256", "mask_sha256"]].copy()
    of_image = [mean_iou.compute(confusion[None]) for confusion in evaluation.confusions]
    rows["mean_iou"] = [None if math.isnan(value) else value for value in of_image]
    rows["confusion"] = [confusion.ravel() for confusion in evaluation.confusions]
    return rows


def _draw_samples(
    network: Network, store: Store, rows: pd.DataFrame, num_overlays: int, output: Path
) -> list[ShownSample]:
    """Draws the images of a split with the lowest, middle and highest mIoU, and large pictures of them as files."""
    scores = rows["mean_iou"].to_numpy(np.float64)
    shown = []
    for index, title in choose_by_score(scores, num_overlays):
        image, mask = store.read(index)
        prediction = network.predict(image[None])[0]
        split, sample_id = str(rows["split"].iat[index]), str(rows["sample_id"].iat[index])
        file = f"overlays/{split}/{sample_id}.png"
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(side_by_side(image, [mask, prediction], store.classes)).save(output / file, compress_level=3)
        caption = f"{split}, {sample_id}, mIoU {give_percent(float(scores[index]))}"
        shown.append(show_prediction(image, mask, prediction, store.classes, title=title, caption=caption, full=file))
    return shown


def _draw_pairs(network: Network, store: Store, evaluation: Evaluation, num_overlays: int) -> list[ShownPair]:
    """Draws each of the most confused pairs in the image that has most of its pixels."""
    shown = []
    for pair in find_most_confused(evaluation.confusions.sum(axis=0), min(NUM_PAIRS, num_overlays)):
        index = int(evaluation.confusions[:, pair.truth, pair.predicted].argmax())
        image, mask = store.read(index)
        sample_id = str(store.manifest["sample_id"].iat[index])
        shown.append(show_pair(pair, image, mask, network.predict(image[None])[0], sample_id))
    return shown


def _summarize() -> DatasetSummary:
    """Gives what `preprocess` found in the data."""
    report = json.loads((DATASET / REPORT_FILE).read_text(encoding="utf-8"))
    licence = json.loads((DATASET / DATASET_FILE).read_text(encoding="utf-8"))["licence"]
    splits = [(row["split"], row["num_samples"]) for row in report["splits"]]
    return DatasetSummary(licence, splits, report["warnings"], report["num_skipped"])


if __name__ == "__main__":
    run_stage(main, Evaluate, EVALUATION)
