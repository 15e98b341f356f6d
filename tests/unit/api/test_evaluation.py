"""Scores of a model on a data set; that they are those of the stage is tested in tests/integration/test_python.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samples import Sample

import segpipe
from segpipe.classes import ClassTable
from segpipe.data.store import Store
from segpipe.errors import StoreError
from segpipe.metrics.parts.scores import list_metrics


def test_all_metrics_are_given_by_name(
    write_model: Callable[..., Path], make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    samples = [make_sample("a_0"), make_sample("b_0", "val"), make_sample("b_1", "val", 40, 24)]
    dataset = segpipe.open_dataset(make_store(samples).folder)
    model = segpipe.load_model(write_model(), device="cpu")
    scores = segpipe.evaluate(model, dataset)
    assert sorted(scores) == sorted(list_metrics())
    assert list(scores["iou"]) == ["road", "car", "sky"]
    truths = [(model.predict(image).mask, mask) for image, mask in dataset.split("val")]
    right, labelled = (sum(int(one.sum()) for one in ones) for ones in (
        [mask == truth for mask, truth in truths], [truth != 255 for _, truth in truths]
    ))  # fmt: skip
    assert scores["pixel_accuracy"] == pytest.approx(right / labelled)
    assert segpipe.evaluate(model, dataset.split("val"), "val") == scores


def test_other_classes_are_refused(
    write_model: Callable[..., Path], make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    table = ClassTable(("road", "sky", "car"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    dataset = segpipe.open_dataset(make_store([make_sample("b_0", "val")], table=table).folder)
    with pytest.raises(StoreError, match="road, sky, car"):
        segpipe.evaluate(segpipe.load_model(write_model(), device="cpu"), dataset)
