"""The registered model, measured as it is served, against what the evaluate stage found."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from integration.project import Project

from segpipe.data.store import Store
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.registry.measuring.measure import classes_of_served, confusions_of_served, latency_of_served
from segpipe.registry.measuring.trust import Runnable, by_this_package


def served_model_of(project: Project) -> Path:
    (description,) = (project.root / "mlruns").rglob("MLmodel")
    return description.parent


def confusions_of_evaluate(project: Project, split: str) -> np.ndarray:
    rows = pd.read_parquet(project.root / "build/evaluation/per_image.parquet")
    counts = ImageCounts.read(project.root / "build/evaluation/evidence/confusion.parquet")
    return counts.dense()[(rows["split"] == split).to_numpy()]


# The gate measures the first; `make chaos` looks at the other too.
@pytest.mark.parametrize("split", ["val", pytest.param("test", marks=pytest.mark.slow)])
def test_the_served_model_makes_the_confusions_of_the_evaluate_stage(original: Project, split: str) -> None:
    model, store = served_model_of(original), Store.open(original.root / "build/dataset").of_split(split)
    assert classes_of_served(model) == store.classes.names
    for runnable in (Runnable(model), by_this_package(model / "artifacts/model")):
        confusions = confusions_of_served(runnable, store.classes.names, store)
        np.testing.assert_array_equal(confusions.dense(), confusions_of_evaluate(original, split))
    assert not list(model.rglob("__pycache__"))


def test_it_is_the_code_in_the_models_folder_that_predicts(original: Project, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(served_model_of(original), model)
    logits = model / "code/segpipe/inference/logits.py"
    code = logits.read_text(encoding="utf-8")
    assert "logits_NCHW.max(dim=1)" in code
    logits.write_text(code.replace("logits_NCHW.max(dim=1)", "logits_NCHW[:, :1].max(dim=1)"), encoding="utf-8")
    store = Store.open(original.root / "build/dataset").of_split("val")
    confusions = confusions_of_served(Runnable(model), store.classes.names, store)
    assert confusions.total()[:, 1:].sum() == 0  # the first class, whatever the image
    assert confusions.total()[:, 0].sum() == confusions_of_evaluate(original, "val").sum()


def test_two_served_models_are_timed_together(original: Project) -> None:
    model, store = served_model_of(original), Store.open(original.root / "build/dataset").of_split("val")
    latencies = latency_of_served([Runnable(model), by_this_package(model / "artifacts/model")], store)
    assert len(latencies) == 2
    assert all(0 < one.low_ms <= one.median_ms <= one.high_ms for one in latencies)
