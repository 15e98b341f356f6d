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

registry, *addresses = sys.argv[1:]
for number, address in enumerate(addresses):
    model = segpipe.load_model(address, registry)
    assert not [name for name in os.environ if name.startswith("MLFLOW_TRACKING_")], "the environment was changed"
    np.save(f"{number}.npy", model.predict(np.load("images.npy"))[0].mask)
    print(json.dumps([str(model.describe()), model.describe().val_scores]))
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


def test_the_registrys_models_are_loaded_in_another_folder(finished: Project, tmp_path: Path) -> None:
    # Those of MLflow first: here they find the store without the help of "champion".
    addresses = (f"models:/{MODEL_NAME}/1", f"models:/{MODEL_NAME}@champion", "champion")
    images = np.random.default_rng(0).integers(0, 256, (1, 40, 56, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "load.py").write_text(LOAD_FROM_REGISTRY, encoding="utf-8")
    stranger = Project(tmp_path, {"PYTHONPATH": str(finished.root / "src")})
    told = stranger.call("python", "load.py", f"sqlite:///{finished.root}/mlflow.db", *addresses).splitlines()
    model = segpipe.load_model(finished.root / "build/model", device="cpu")
    mask, scores = model.predict(images[0]).mask, model.describe().val_scores
    assert len(told) == len(addresses)
    for number, line in enumerate(told):
        np.testing.assert_array_equal(np.load(tmp_path / f"{number}.npy"), mask)
        description, tagged = json.loads(line)
        assert description.startswith(f"{MODEL_NAME} version 1\n") and model.describe().weights_sha256 in description
        assert tagged["mean_iou"] == scores["mean_iou"]
        assert tagged["iou"] == pytest.approx(scores["iou"], abs=1e-4)
    assert not list(tmp_path.glob("mlflow.db*"))


def test_the_projects_own_champion_is_found_and_its_weights_begin_a_training(finished: Project) -> None:
    code = (
        "import segpipe, torch\n"
        f"network = segpipe.build_model('unet', 3, weights='models:/{MODEL_NAME}@champion', width=4, depth=2)\n"
        "print(repr(segpipe.load_model('champion', device='cpu')))\n"
        "trained = segpipe.load_model('build/model', device='cpu').network.module.state_dict()\n"
        "print(all(torch.equal(value, trained[name]) for name, value in network.state_dict().items()))\n"
    )
    assert finished.python(code).splitlines()[-2:] == [f"<Model '{MODEL_NAME}', unet on cpu>", "True"]


def test_without_a_project_and_a_registry_it_says_what_to_write(tmp_path: Path, original: Project) -> None:
    stranger = Project(tmp_path, {"PYTHONPATH": str(original.root / "src")})
    done = stranger.run("python", "-c", "import segpipe; segpipe.load_model('champion')")
    assert done.returncode == 1 and "registry=ADDRESS" in done.stderr
