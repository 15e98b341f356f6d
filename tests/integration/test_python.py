"""`import segpipe` in a finished project: the docstrings' examples, the scores of the stage, the registry's models."""

from __future__ import annotations

import doctest
import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from integration.project import MODEL_NAME, Project

import segpipe

MODULES = ("datasets", "evaluation", "models", "networks")
WITHOUT_TRAINING = {"loss", "mean_iou_low", "mean_iou_high"}

LOAD_FROM_REGISTRY = """
import json, os, sys
import numpy as np, segpipe

registry, address, output = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
model = segpipe.load_model(address, registry)
assert not [name for name in os.environ if name.startswith("MLFLOW_TRACKING_")], "the environment was changed"
np.save(output, model.predict(np.load(f"{output}.images.npy"))[0].mask)
print(model.describe())
print(json.dumps(model.describe().val_scores))
"""


@pytest.fixture
def inside(original: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The finished project as the working folder, and as many threads as its stages have: last digits depend on it."""
    monkeypatch.chdir(original.root)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield original
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(inside: Project, name: str) -> None:
    module = importlib.import_module(f"segpipe.api.{name}")
    failed, tried = doctest.testmod(module)
    assert tried and not failed


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_scores_are_those_of_the_stage_to_the_last_digit(inside: Project, split: str) -> None:
    stage = inside.json("build/evaluation/metrics.json")[split]
    model, dataset = segpipe.load_model("build/model", device="cpu"), segpipe.open_dataset("build/dataset")
    scores = segpipe.evaluate(model, dataset, split)
    assert scores == {name: value for name, value in stage.items() if name not in WITHOUT_TRAINING}
    assert stage.keys() - scores.keys() == WITHOUT_TRAINING


@pytest.mark.parametrize("address", ["champion", f"models:/{MODEL_NAME}@champion", f"models:/{MODEL_NAME}/1"])
def test_the_registrys_models_are_loaded_in_another_folder(finished: Project, tmp_path: Path, address: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 40, 56, 3), np.uint8)
    np.save(tmp_path / "mask.npy.images.npy", images)
    (tmp_path / "load.py").write_text(LOAD_FROM_REGISTRY, encoding="utf-8")
    registry = json.dumps(f"sqlite:///{finished.root}/mlflow.db")
    stranger = Project(tmp_path, {"PYTHONPATH": str(finished.root / "src")})
    told = stranger.call("python", "load.py", registry, address, str(tmp_path / "mask.npy"))
    model = segpipe.load_model(finished.root / "build/model", device="cpu")
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), model.predict(images[0]).mask)
    assert told.startswith(f"{MODEL_NAME} version 1\n") and model.describe().weights_sha256 in told
    scores, tagged = model.describe().val_scores, json.loads(told.splitlines()[-1])
    assert tagged["mean_iou"] == scores["mean_iou"]
    assert tagged["iou"] == pytest.approx(scores["iou"], abs=1e-4)
    assert not list(tmp_path.glob("mlflow.db*"))


def test_the_projects_own_champion_is_found(finished: Project) -> None:
    code = "import segpipe; print(repr(segpipe.load_model('champion', device='cpu')))"
    assert finished.python(code).splitlines()[-1] == f"<Model '{MODEL_NAME}', unet on cpu>"


def test_weights_of_the_registry_begin_a_training(finished: Project) -> None:
    code = (
        "import segpipe, torch\n"
        f"network = segpipe.build_model('unet', 3, weights='models:/{MODEL_NAME}@champion', width=4, depth=2)\n"
        "trained = segpipe.load_model('build/model', device='cpu').network.module.state_dict()\n"
        "print(all(torch.equal(value, trained[name]) for name, value in network.state_dict().items()))\n"
    )
    assert finished.python(code).splitlines()[-1] == "True"


def test_without_a_project_and_a_registry_it_says_what_to_write(tmp_path: Path, original: Project) -> None:
    stranger = Project(tmp_path, {"PYTHONPATH": str(original.root / "src")})
    done = stranger.run("python", "-c", "import segpipe; segpipe.load_model('champion')")
    assert done.returncode == 1 and "registry=ADDRESS" in done.stderr
