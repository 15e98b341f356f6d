"""Results of another training, made up: other weights, and any score on the images of `build/dataset`."""

import hashlib
from pathlib import Path

import numpy as np
from integration.project import Project
from safetensors.numpy import load_file, save_file

from segpipe.data.store import Store
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.scores import evaluation_digest, score

SPLITS = ("val", "test")


def fabricate_challenger(project: Project, share_right: float) -> None:
    """Puts a challenger into build/: weights that differ in their last bits, and scores of its own.

    Args:
        project: has run, or its data set has been made again since.
        share_right: of the labelled pixels of each class in each image; the rest is taken for the next class. Where a
            model is measured as served, it does what the project's own does.
    """
    store = Store.open(project.root / "build/dataset")
    identity = {"weights_sha256": _nudge(project.root / "build/model/weights.safetensors")}
    other = hashlib.sha256(identity["weights_sha256"].encode()).hexdigest()
    project.change_json(
        "build/model/model.json",
        lambda model: model.update(identity, signature=other, classes=store.classes.to_json()),
    )
    project.change_json(
        "build/evaluation/evaluation.json",
        lambda evaluation: evaluation.update(
            identity,
            class_table=store.classes.digest,
            evaluation_digest=evaluation_digest(store.of_split("val").digest),
        ),
    )
    rows = store.manifest[["sample_id", "group", "split", "image_sha256", "mask_sha256"]].copy()
    confusions = np.stack([_confusion(num_px, share_right) for num_px in store.num_px()])
    is_measured = rows["split"].isin(SPLITS).to_numpy()
    rows[is_measured].to_parquet(project.root / "build/evaluation/per_image.parquet", index=False)
    confusions_of(confusions[is_measured]).write(project.root / "build/evaluation/evidence/confusion.parquet")
    metrics = {}
    for split in SPLITS:
        of_split = confusions_of(confusions[(rows["split"] == split).to_numpy()])
        scores = score({"confusion": of_split}, store.classes.names)
        metrics[split] = {**scores, "mean_iou_low": None, "mean_iou_high": None}
    project.change_json("build/evaluation/metrics.json", lambda document: document.update(metrics))


def _confusion(num_px: np.ndarray, share_right: float) -> np.ndarray:
    right = np.round(num_px * share_right).astype(np.int64)
    return np.diag(right) + np.roll(np.diag(num_px - right), 1, axis=1)


def _nudge(weights: Path) -> str:
    """Moves each weight to its neighbour among the floating-point numbers; gives the file's new sha256."""
    tensors = {
        name: np.nextafter(tensor, np.inf, dtype=tensor.dtype) if tensor.dtype == np.float32 else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights)
    return hashlib.sha256(weights.read_bytes()).hexdigest()
