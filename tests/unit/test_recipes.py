"""The recipes: each is valid, says where it comes from, and names what can be built; `make zoo` starts each."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from samples import Sample
from torch import nn

from segpipe.classes import ClassTable
from segpipe.cli.recipe import describe_recipe, read_comment
from segpipe.config.download import locate
from segpipe.config.params import Config, load_config
from segpipe.config.train import Train
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.readers import ade20k, camvid, cityscapes, voc
from segpipe.data.sources.public_sets import find_public_set
from segpipe.data.store import Store
from segpipe.inference.cost import without_content
from segpipe.inference.network import build_network
from segpipe.models import has_pretrained
from segpipe.training.loop import BEST_WEIGHTS, Fit, fit
from segpipe.training.objective import make_objective
from segpipe.training.optim import make_optimizer, make_plateau, make_schedule
from segpipe.training.parameters import freeze

ROOT = Path(__file__).parents[2]
RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}

NUM_CLASSES = {
    "ade20k": len(ade20k.CLASSES),
    "camvid": len(camvid.CLASSES),
    "cityscapes": len(cityscapes.CLASSES),
    "voc": len(voc.CLASSES),
    "folder": 11,  # the starter's
}
# Training images, and steps of the schedule that the recipe follows.
PUBLISHED_STEPS = {
    "deeplabv3plus_ade20k": (20_210, 160_000),
    "deeplabv3plus_cityscapes": (2_975, 80_000),
    "deeplabv3plus_voc": (10_582, 40_000),
    "fcn8s_voc": (10_582, 300_000),
    "pspnet_ade20k": (20_210, 160_000),
    "pspnet_cityscapes": (2_975, 80_000),
    "pspnet_voc": (10_582, 40_000),
    "segnet_camvid": (367, 40_000),
}

every_recipe = pytest.mark.parametrize("name", RECIPES)


def _num_classes(config: Config) -> int:
    return NUM_CLASSES[config.download.format]


@functools.cache
def _build_empty(name: str, options: str, in_channels: int) -> nn.Module:
    """Builds a model without content, once for all recipes that take it alike; its options are JSON."""
    num_classes = max(NUM_CLASSES.values())
    return without_content(lambda: build_network(name, json.loads(options), num_classes, in_channels))


@every_recipe
def test_its_comment_says_source_expectation_and_use(name: str) -> None:
    comment = read_comment(RECIPES[name])
    for label in ("Source: ", "Expected: "):
        assert comment.count(label) == 1, label
    expected = comment.partition("Expected: ")[2]
    assert re.search("not measured here|measured here|nothing worth a figure", expected)
    if "not measured here" in expected and "depends on the data" not in expected:
        assert "published" in expected
    if name != "smoke":
        assert f"`segpipe recipe use {name}`" in comment


@every_recipe
def test_it_is_listed_with_a_short_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    described = describe_recipe(name)
    assert described["about"].endswith(".")
    assert len(described["about"]) <= 120


@every_recipe
def test_its_source_is_a_public_set_of_its_format_or_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    download = load_config(RECIPES[name]).download
    source = locate(download).source
    if source.startswith("public:"):
        public = find_public_set(source.removeprefix("public:"))
        assert public is not None
        assert public.format == download.format
    else:
        assert source == "data"


@every_recipe
def test_what_it_names_can_be_built(name: str) -> None:
    config = load_config(RECIPES[name])
    settings = config.train
    model = settings.model
    module = _build_empty(model.name, json.dumps(model.options), model.in_channels)
    freeze(module, settings)
    optimizer = make_optimizer(module, settings)
    make_schedule(optimizer, settings.schedule, num_steps=20 * settings.epochs, steps_per_epoch=20)
    make_plateau(optimizer, settings.schedule, settings.validate_every)
    make_objective(settings.loss, settings.auxiliary_weight, torch.ones(_num_classes(config)))
    assert model.weights != "imagenet" or has_pretrained(model.name)


@every_recipe
def test_it_registers_under_its_own_name(name: str) -> None:
    config, own = load_config(RECIPES[name]), name.removesuffix("_finetune")
    registered = config.register_.model_name
    # `segpipe init` puts the project's name before those of the recipes that train on its data.
    assert registered == own or (config.download.source == "data" and registered.endswith(f"-{own}"))


@pytest.mark.parametrize("name", PUBLISHED_STEPS)
def test_its_epochs_are_the_published_steps(name: str) -> None:
    num_images, num_steps = PUBLISHED_STEPS[name]
    settings = load_config(RECIPES[name]).train
    steps_per_epoch = num_images // settings.batch_size
    assert abs(settings.epochs * steps_per_epoch - num_steps) <= steps_per_epoch
    # The comment's arithmetic is that of the parameters.
    comment = read_comment(RECIPES[name])
    for number in (f"{num_images:,}", f"{num_steps:,}", f"{settings.epochs:,} epochs"):
        assert number in comment


def test_fcn_resnet101_rises_for_ten_epochs_and_falls_along_a_cosine_of_150() -> None:
    settings = load_config(RECIPES["fcn_resnet101_voc"]).train
    assert (settings.learning_rate, settings.weight_decay, settings.batch_size) == (0.01, 5e-4, 16)
    steps_per_epoch = 4
    optimizer = make_optimizer(nn.Conv2d(1, 1, 1), settings)
    schedule = make_schedule(optimizer, settings.schedule, settings.epochs * steps_per_epoch, steps_per_epoch)
    rates = []
    for _ in range(settings.epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    top = 10 * steps_per_epoch
    assert rates.index(max(rates)) == top
    assert rates[top] == pytest.approx(0.01)
    assert rates[top + 75 * steps_per_epoch] == pytest.approx(0.005)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_the_second_training_of_fc_densenet_goes_on_with_what_the_first_registers() -> None:
    first, second = (load_config(RECIPES[f"fc_densenet103_camvid{end}"]) for end in ("", "_finetune"))
    assert second.train.model.weights == f"models:/{first.register_.model_name}@champion"
    assert second.train.model.options == first.train.model.options
    assert (second.download, second.preprocess) == (first.download, first.preprocess)


def _shrink(settings: Train) -> Train:
    """One epoch of one step, with two tiny crops and random weights; all else as it is."""
    model = settings.model.model_copy(update={"weights": "none"})
    augment = settings.augment.model_copy(update={"crop": (64, 64)})
    size = {"epochs": 1, "batch_size": min(2, settings.batch_size), "num_threads": 1, "num_overlays": 0}
    # What the train stage would measure on the device, where a recipe says auto.
    measured = {"precision": "float32" if settings.precision == "auto" else settings.precision, "micro_batch": None}
    return settings.model_copy(update={"model": model, "augment": augment, **size, **measured})


@pytest.mark.zoo
@every_recipe
def test_it_starts(
    name: str,
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    tmp_path: Path,
) -> None:
    config = load_config(RECIPES[name])
    settings, num_classes = _shrink(config.train), _num_classes(config)
    table = ClassTable(tuple(map(str, range(num_classes))), ((0, 0, 0),) * num_classes)
    train = [make_sample(f"t_{i}", height=64, width=64) for i in range(settings.batch_size)]
    store = make_store([*train, make_sample("v_0", "val", height=64, width=64)], table=table)
    torch.manual_seed(0)
    model = settings.model
    module = build_network(model.name, model.options, num_classes, model.in_channels)
    before = [parameter.clone() for parameter in module.parameters()]
    objective = make_objective(settings.loss, settings.auxiliary_weight, torch.ones(num_classes))
    loader = TrainLoader(store.of_split("train"), settings.augment, settings.batch_size, settings.seed)
    # Removed at once: checkpoints of all recipes are gigabytes, and pytest keeps its folders.
    with tempfile.TemporaryDirectory(dir=tmp_path) as name_of_folder:
        folder = Path(name_of_folder)
        job = Fit(module, objective, loader, store.of_split("val"), settings, folder, _Sink(), lambda: False)
        progress = fit(job)
        assert (folder / BEST_WEIGHTS).is_file()
    assert progress.epoch == 1
    assert progress.history[0]["train_loss"] > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


class _Sink:
    """Takes metrics and pictures and forgets them."""

    def log_metrics(self, metrics: object, epoch: int) -> None:
        pass

    def log_prediction(self, name: str, image: object, truth: object, prediction: object, epoch: int) -> None:
        pass
