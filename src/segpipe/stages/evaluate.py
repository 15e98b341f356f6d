"""Measures the network on the splits that it was not trained on."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from segpipe.choices import TABLES
from segpipe.config.evaluate import Evaluate, Inference
from segpipe.config.reading import load_section
from segpipe.config.register import Register
from segpipe.config.train import LossTerm
from segpipe.data.store import ATTRIBUTE_COLUMN_PREFIX, DATASET_FILE, Store
from segpipe.documents import EvaluationDescription, ModelDescription
from segpipe.errors import StoreError
from segpipe.files import sha256_of_file, whole_folder, write_json
from segpipe.inference.device import (
    check_instructions,
    choose_device,
    computes_bf16,
    device_of,
    keep_freed_memory,
    make_repeatable,
)
from segpipe.inference.evaluate import Terms, evaluate
from segpipe.inference.instructions import are_limited
from segpipe.inference.network import Network
from segpipe.inference.predictor import AS_TRAINED
from segpipe.losses.parts.terms import build_terms
from segpipe.metrics.parts.bootstrap import bundle, estimate_iou
from segpipe.metrics.parts.counts import mean_iou_of_images
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.measured import Measured
from segpipe.metrics.parts.scores import evaluation_digest, list_evidence, score
from segpipe.places import (
    DATASET,
    EVALUATION,
    EVALUATION_FILE,
    EVIDENCE_FOLDER,
    INFERENCE_FILE,
    METRICS_FILE,
    MODEL,
    MODEL_FILE,
    PER_IMAGE_FILE,
    REPORT_FILE,
    TABLES_FOLDER,
)
from segpipe.reports.confusion import ConfusedPair, ShownPair, draw_confusion_matrix, show_pair
from segpipe.reports.drawing.curves import draw_curves
from segpipe.reports.drawing.overlay import side_by_side
from segpipe.reports.evaluation import DatasetSummary, Drawings, SplitScores, write_evaluation_report
from segpipe.reports.figures import give_percent
from segpipe.reports.headline import write_headline
from segpipe.reports.samples import ShownSample, choose_by_score, show_prediction
from segpipe.stages.stage import run_stage

log = logging.getLogger(__name__)

SPLITS = ("val", "test")
NUM_DIGITS = 32  # of a digest
NUM_PAIRS = 4  # most confused pairs that are drawn


def main(settings: Evaluate) -> None:
    """Writes `evaluation/`: metrics, tables, the counts of each image, plots, report; and `metrics.json` for Git."""
    keep_freed_memory()
    make_repeatable(seed=0, num_threads=settings.num_threads)
    block_length = load_section(Register).num_block_images
    device = choose_device(settings.device)
    if are_limited():
        check_instructions(device)
    network = replace(Network.load(MODEL, device), inference=_choose_inference(settings.inference, device))
    model = ModelDescription.read(MODEL / MODEL_FILE, "run `dvc repro train`")
    store = Store.open(DATASET)
    if store.classes.names != network.classes.names:
        raise StoreError(f"the classes of {MODEL} differ from those of {DATASET}; run `dvc repro train`")
    stores = {split: store.of_split(split) for split in SPLITS if (store.manifest["split"] == split).any()}
    terms, kinds = _terms_of_training(model, device_of(network.module)), list_evidence()
    evaluations = {split: evaluate(network.predictor, part, terms, kinds) for split, part in stores.items()}
    measured = {
        split: Measured(evaluation.evidence, _describe_images(stores[split]), store.classes.names, block_length)
        for split, evaluation in evaluations.items()
    }
    metrics = {split: _score(measured[split], evaluation.loss) for split, evaluation in evaluations.items()}
    rows = {split: one.images.assign(mean_iou=mean_iou_of_images(one.confusions)) for split, one in measured.items()}
    tables = {name: _tabulate(name, measured) for name in TABLES.names()}
    with whole_folder(EVALUATION) as output:
        identity = _identify(network, stores, _write_inference(network.inference, output))
        write_json(output / METRICS_FILE, metrics)
        write_json(output / EVALUATION_FILE, identity.to_json())
        pd.concat(rows.values()).to_parquet(output / PER_IMAGE_FILE, index=False)
        _write_evidence(output / EVIDENCE_FOLDER, list(measured.values()))
        _write_tables(output / TABLES_FOLDER, tables)
        by_class = pd.DataFrame({split: scores["iou"] for split, scores in metrics.items()})
        by_class.to_csv(output / "iou.csv", index_label="class")
        draw_confusion_matrix(measured["val"].confusions.total(), store.classes, output / "confusion_matrix.png")
        samples = [
            sample
            for split, part in stores.items()
            for sample in _draw_samples(network, part, rows[split], settings.num_overlays, output)
        ]
        confused = tables["confused_pairs"].query("split == 'val'").head(min(NUM_PAIRS, settings.num_overlays))
        pairs = _draw_pairs(network, stores["val"], confused)
        drawings = Drawings(draw_curves(MODEL / "history", model.best_epoch), samples, pairs)
        scores = [
            SplitScores.of_tables(split, len(one.images), metrics[split], one.confusions.total(), tables)
            for split, one in measured.items()
        ]
        write_evaluation_report(output, model, identity, scores, _summarize(), drawings)
    write_headline(metrics)


def _choose_inference(wanted: Inference, device: torch.device) -> Inference:
    """Gives how the model is measured, and registered: without bfloat16 where the device does not compute with it."""
    if wanted.precision == "float32" or computes_bf16(device):
        return wanted
    reason = "train.deterministic is anywhere" if are_limited() else f"{device} computes no bfloat16"
    log.warning("evaluate.inference.precision: %s; the model is measured in float32", reason)
    return wanted.in_float32


def _terms_of_training(model: ModelDescription, device: torch.device) -> Terms:
    """Builds the loss that the model was trained with: the same functions, options and class weights."""
    weights = model.params.class_weights["weights"]
    class_weights = torch.tensor([weights[name] for name in model.classes.names], dtype=torch.float32, device=device)
    return build_terms([LossTerm.model_validate(term) for term in model.params.train["loss"]], class_weights)


def _write_inference(inference: Inference, output: Path) -> str | None:
    """Writes how the model predicts, for the served model, and gives its digest; nothing for the network alone."""
    if inference == AS_TRAINED:
        return None
    write_json(output / INFERENCE_FILE, inference.to_json())
    return sha256_of_file(output / INFERENCE_FILE)[:NUM_DIGITS]


def _identify(network: Network, stores: dict[str, Store], inference: str | None) -> EvaluationDescription:
    """Gives the digests of weights, classes, images and inference: scores with equal digests may be compared."""
    return EvaluationDescription(
        weights_sha256=network.weights_sha256,
        class_table=network.classes.digest,
        evaluation_digest=evaluation_digest(stores["val"].digest),
        inference=inference,
    )


def _score(measured: Measured, loss: float) -> dict[str, object]:
    """All scores of a split, and the 95% interval of its mIoU (null where there are too few images)."""
    units = bundle(measured.images["group"].tolist(), measured.block_length)
    estimate, _ = estimate_iou(measured.confusions, units)
    low, high = (None if math.isnan(bound) else bound for bound in (estimate.low, estimate.high))
    scores = score(measured.evidence, measured.class_names)
    return {**scores, "mean_iou_low": low, "mean_iou_high": high, "loss": loss}


def _describe_images(store: Store) -> pd.DataFrame:
    """Gives a row a sample: what identifies it, and the attributes of the source."""
    attributes = [name for name in store.manifest if str(name).startswith(ATTRIBUTE_COLUMN_PREFIX)]
    return store.manifest[["sample_id", "group", "split", "image_sha256", "mask_sha256", *attributes]].copy()


def _write_evidence(folder: Path, measured: Sequence[Measured]) -> None:
    """Writes the counts of the images of all splits; `image` is the number of the row in `per_image.parquet`."""
    folder.mkdir()
    for kind in measured[0].evidence:
        ImageCounts.join([one.evidence[kind] for one in measured]).write(folder / f"{kind}.parquet")


def _tabulate(name: str, measured: Mapping[str, Measured]) -> pd.DataFrame:
    parts = []
    for split, one in measured.items():
        table = TABLES.function_of(name)(one)
        table.insert(0, "split", split)
        parts.append(table)
    joined: pd.DataFrame = pd.concat(parts)
    return joined


def _write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


def _draw_samples(
    network: Network, store: Store, rows: pd.DataFrame, num_overlays: int, output: Path
) -> list[ShownSample]:
    """Draws the images of a split with the lowest, middle and highest mIoU, and large pictures of them as files."""
    scores = rows["mean_iou"].to_numpy(np.float64)
    shown = []
    for index, title in choose_by_score(scores, num_overlays):
        image, mask = store.read(index)
        prediction, confidence = _predict_with_confidence(network, image)
        split, sample_id = str(rows["split"].iat[index]), str(rows["sample_id"].iat[index])
        file = f"overlays/{split}/{sample_id}.png"
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(side_by_side(image, [mask, prediction], store.classes)).save(output / file, compress_level=3)
        words = {"title": title, "caption": f"{split}, {sample_id}, mIoU {give_percent(float(scores[index]))}"}
        shown.append(show_prediction(image, mask, prediction, confidence, store.classes, **words, full=file))
    return shown


def _predict_with_confidence(
    network: Network, image: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Gives mask and probability of its classes, 255 for 1, (height, width) uint8 each."""
    mask, confidence = np.empty(image.shape[:2], np.uint8), np.empty(image.shape[:2], np.uint8)
    for piece in network.predictor.predict(image[None]):
        highest = piece.probabilities_NCHW[0].max(dim=0)
        mask[piece.place[1:]] = highest.indices.to(torch.uint8).cpu().numpy()
        confidence[piece.place[1:]] = (255 * highest.values).round().to(torch.uint8).cpu().numpy()
    return mask, confidence


def _draw_pairs(network: Network, store: Store, pairs: pd.DataFrame) -> list[ShownPair]:
    """Draws pairs of the table `confused_pairs`, each in the image that has most of its pixels."""
    names, samples = store.classes.names, store.manifest["sample_id"].tolist()
    shown = []
    for row in pairs.to_dict("records"):
        pair = ConfusedPair(
            names.index(row["truth"]), names.index(row["predicted"]), row["num_px"], row["share_of_truth"]
        )
        sample_id = row["sample_ids"][0]
        image, mask = store.read(samples.index(sample_id))
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
