"""What the evaluate stage writes, against the training's history, the gate's interval and its own evidence."""

import math

import numpy as np
import pandas as pd
import pytest
from integration.project import Project

from segpipe.choices import EVIDENCE, TABLES
from segpipe.metrics.parts.bootstrap import bundle, estimate_iou
from segpipe.metrics.parts.counts import mean_iou_of_images
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.scores import score


def read_evidence(project: Project, kind: str, split: str) -> ImageCounts:
    rows = pd.read_parquet(project.root / "build/evaluation/per_image.parquet")
    counts = ImageCounts.read(project.root / f"build/evaluation/evidence/{kind}.parquet")
    return counts.take(np.flatnonzero(rows["split"] == split))


def test_the_loss_is_the_trainings(original: Project) -> None:
    best_epoch = original.json("build/model/model.json")["best_epoch"]
    history = pd.read_csv(original.root / "build/model/history/val.csv").set_index("epoch")
    assert original.json("build/evaluation/metrics.json")["val"]["loss"] == pytest.approx(
        history.loc[best_epoch, "loss"], rel=1e-4
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_evidence_gives_the_scores(original: Project, split: str) -> None:
    scores = original.json("build/evaluation/metrics.json")[split]
    evidence = {kind: read_evidence(original, kind, split) for kind in EVIDENCE.names()}
    again = score(evidence, list(scores["iou"]))
    assert again.keys() == scores.keys() - {"mean_iou_low", "mean_iou_high", "loss"}
    assert {name: scores[name] for name in again} == again
    rows = pd.read_parquet(original.root / "build/evaluation/per_image.parquet")
    of_images = rows.loc[rows["split"] == split, "mean_iou"]
    np.testing.assert_array_equal(of_images, mean_iou_of_images(evidence["confusion"]))


def test_every_table_has_the_rows_of_both_splits(original: Project) -> None:
    for name in TABLES.names():
        table = pd.read_parquet(original.root / f"build/evaluation/tables/{name}.parquet")
        assert table.columns[0] == "split"
        assert set(table["split"]) == {"val", "test"} or name == "confused_pairs"  # a perfect model confuses nothing


def test_the_interval_is_drawn_by_the_gates_blocks(finished: Project) -> None:
    by_groups = finished.json("build/evaluation/metrics.json")["val"]
    finished.change_params("register.block_length", 1)
    finished.stage("evaluate")
    by_images = finished.json("build/evaluation/metrics.json")["val"]
    confusions = read_evidence(finished, "confusion", "val")
    rows = pd.read_parquet(finished.root / "build/evaluation/per_image.parquet")
    groups = rows.loc[rows["split"] == "val", "group"].tolist()
    expected, _ = estimate_iou(confusions, bundle(groups, 1))
    assert (by_images["mean_iou_low"], by_images["mean_iou_high"]) == (expected.low, expected.high)
    assert by_groups["mean_iou"] == by_images["mean_iou"]
    assert by_groups["mean_iou_low"] != by_images["mean_iou_low"] or math.isclose(expected.low, expected.high)
