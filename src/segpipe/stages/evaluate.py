"""Measures the network on the splits that it was not trained on."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from segpipe.config.evaluate import Evaluate, Inference
from segpipe.data.store import Store, evenly_spread
from segpipe.documents import EvaluationDescription, ModelDescription
from segpipe.errors import StoreError
from segpipe.files import sha256_of_file, whole_folder, write_json
from segpipe.inference.device import choose_device, keep_freed_memory, make_repeatable
from segpipe.inference.evaluate import Evaluation, evaluate
from segpipe.inference.network import Network
from segpipe.inference.predictor import AS_TRAINED
from segpipe.losses.cross_entropy import build_loss
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.bootstrap import bundle, estimate_mean_iou
from segpipe.metrics.parts.scores import evaluation_digest, list_evidence, score
from segpipe.places import (
    DATASET,
    EVALUATION,
    EVALUATION_FILE,
    INFERENCE_FILE,
    METRICS_FILE,
    MODEL,
    MODEL_FILE,
    PER_IMAGE_FILE,
)
from segpipe.reports.evaluation import Picture, draw_confusion_matrix, draw_curves, write_evaluation_report
from segpipe.reports.headline import write_headline
from segpipe.reports.overlay import side_by_side
from segpipe.stages.stage import run_stage

SPLITS = ("val", "test")
NUM_DIGITS = 32  # of a digest


def main(settings: Evaluate) -> None:
    """Writes `evaluation/`: metrics, a confusion matrix for each image, plots, report; and `metrics.json` for Git."""
    keep_freed_memory()
    make_repeatable(seed=0, num_threads=settings.num_threads)
    network = replace(Network.load(MODEL, choose_device(settings.device)), inference=settings.inference)
    model = ModelDescription.read(MODEL / MODEL_FILE, "run `dvc repro train`")
    store = Store.open(DATASET)
    if store.classes.names != network.classes.names:
        raise StoreError(f"the classes of {MODEL} differ from those of {DATASET}; run `dvc repro train`")
    stores = {split: store.of_split(split) for split in SPLITS if (store.manifest["split"] == split).any()}
    unweighted = [(1.0, build_loss(class_weights=torch.ones(store.classes.num_classes)))]
    kinds = list_evidence()
    evaluations = {split: evaluate(network.predictor, part, unweighted, kinds) for split, part in stores.items()}
    metrics = {split: _score(stores[split], evaluation) for split, evaluation in evaluations.items()}
    with whole_folder(EVALUATION) as output:
        write_json(output / METRICS_FILE, metrics)
        inference = _write_inference(settings.inference, output)
        write_json(output / EVALUATION_FILE, _identify(network, stores, inference).to_json())
        rows = pd.concat([_per_image(stores[split], evaluation) for split, evaluation in evaluations.items()])
        rows.to_parquet(output / PER_IMAGE_FILE, index=False)
        val_confusion = evaluations["val"].confusions.sum(axis=0)
        draw_confusion_matrix(val_confusion, store.classes, output / "confusion_matrix.png")
        by_class = pd.DataFrame({split: scores["iou"] for split, scores in metrics.items()})
        by_class.to_csv(output / "iou.csv", index_label="class")
        pictures = [
            picture
            for split, evaluation in evaluations.items()
            for picture in _draw_samples(network, stores[split], evaluation, settings.num_overlays, output)
        ]
        num_samples = {split: len(part) for split, part in stores.items()}
        draw_curves(MODEL / "history", model.best_epoch, output / "curves.png")
        write_evaluation_report(output, model, metrics, num_samples, pictures)
    write_headline(metrics)


def _write_inference(inference: Inference, output: Path) -> str | None:
    """Writes how the model predicts, for the served model, and gives its digest; nothing for the network alone."""
    if inference == AS_TRAINED:
        return None
    write_json(output / INFERENCE_FILE, inference.model_dump(mode="json"))
    return sha256_of_file(output / INFERENCE_FILE)[:NUM_DIGITS]


def _identify(network: Network, stores: dict[str, Store], inference: str | None) -> EvaluationDescription:
    """Gives the digests of weights, classes, images and inference: scores with equal digests may be compared."""
    return EvaluationDescription(
        weights_sha256=network.weights_sha256,
        class_table=network.classes.digest,
        evaluation_digest=evaluation_digest(stores["val"].digest),
        inference=inference,
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
    network: Network, store: Store, evaluation: Evaluation, num_overlays: int, output: Path
) -> list[Picture]:
    pictures = []
    for index in evenly_spread(len(store), num_overlays):
        image, mask = store.read(index)
        row = store.manifest.iloc[index]
        file = f"overlays/{row['split']}/{row['sample_id']}.png"
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        picture = side_by_side(image, [mask, network.predict(image[None])[0]], store.classes)
        Image.fromarray(picture).save(output / file)
        confusion = evaluation.confusions[index]
        value = mean_iou.compute(confusion[None]) if confusion.any() else 0.0
        pictures.append(Picture(file, str(row["sample_id"]), str(row["split"]), value))
    return pictures


if __name__ == "__main__":
    run_stage(main, Evaluate, EVALUATION)
