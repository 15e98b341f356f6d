"""`segpipe data show` on a small store: a picture of what training will see."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from samples import Sample
from starter import make_params

from segpipe.cli import data_show
from segpipe.config.augment import Augment
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import Store
from segpipe.errors import ConfigError, StoreError
from segpipe.places import AUGMENTATIONS_PICTURE, DATASET
from segpipe.reports.drawing.pictures import GAP_PX, LINE_PX

AUGMENT = {
    "crop": [24, 40],
    "scale": [0.8, 1.5],
    "transforms": [{"name": "flip", "probability": 0.5}, {"name": "cutmix", "probability": 0.5}],
}


@pytest.fixture
def store(
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    """A project's store in the working directory, with parameters of seed 3."""
    monkeypatch.chdir(tmp_path)
    DATASET.parent.mkdir()
    samples = [make_sample(f"t_{i}") for i in range(5)] + [make_sample("v_0", "val")]
    _write_params(AUGMENT)
    return make_store(samples, str(DATASET))


def _write_params(augment: dict[str, object], path: str = "params.yaml") -> None:
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(make_params())
    document["train"] |= {"augment": augment, "seed": 3, "batch_size": 2}
    yaml.dump(document, Path(path))


def _show(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    data_show.add_command(parser.add_subparsers())
    options = parser.parse_args(["show", *arguments])
    options.run(options)


def _cell(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    top = 2 * LINE_PX + row * (LINE_PX + 2 * (24 + GAP_PX))
    left = column * (40 + GAP_PX)
    return picture[top : top + 24, left : left + 40]


@pytest.mark.parametrize(("arguments", "seed"), [((), 3), (("--seed", "8"), 8)])
def test_the_picture_shows_what_training_will_see(
    store: Store, arguments: tuple[str, ...], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _show("--output", "out/grid.png", "--count", "5", "--epochs", "2", *arguments)
    assert capsys.readouterr().out == "5 samples in out/grid.png\n"
    with Image.open("out/grid.png") as image:
        picture = np.asarray(image)
    seen_in_training = set()
    train = store.of_split("train")
    for images, _ in TrainLoader(train, Augment.model_validate(AUGMENT), 5, seed).batches(1):
        seen_in_training |= {image.tobytes() for image in images}
    assert {_cell(picture, row, 2).tobytes() for row in range(5)} == seen_in_training


def test_another_parameter_file_and_the_default_output(store: Store) -> None:
    _write_params({"crop": [24, 40], "scale": [1.0, 1.0]}, "recipe.yaml")
    _show("--params", "recipe.yaml", "--count", "1", "--epochs", "1")
    assert AUGMENTATIONS_PICTURE.is_file()


def test_no_more_rows_than_samples(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    _show("--count", "50", "--epochs", "1")
    assert capsys.readouterr().out.startswith("5 samples in ")


def test_what_the_library_does_not_know_is_said(store: Store) -> None:
    _write_params(AUGMENT | {"transforms": [{"name": "albumentations", "options": {"transform": "Blurr"}}]})
    with pytest.raises(ConfigError, match="did you mean 'Blur'"):
        _show()
    assert not AUGMENTATIONS_PICTURE.exists()


def test_without_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write_params(AUGMENT)
    with pytest.raises(StoreError, match="run `dvc repro preprocess`"):
        _show()


@pytest.mark.parametrize("arguments", [("--count", "0"), ("--seed", "-1"), ("--output", "grid.jpg")])
def test_a_wrong_argument_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _show(*arguments)
    assert f"argument {arguments[0]}: must " in capsys.readouterr().err
