"""What a project is to be, and its parameter files: those of the starter with other values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from segpipe.choices import MODELS
from segpipe.config.params import Config, load_config
from segpipe.config.params_edit import set_values
from segpipe.config.split_edit import Grouping
from segpipe.data.sources.source import Source
from segpipe.errors import ConfigError
from segpipe.places import DATA, PARAMS_FILE, RECIPES

SHARE_KEPT_OUT = 0.15
NUM_LOOKED_AT = 20
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L"})
Values = dict[str, object]  # parameters by key


@dataclass(frozen=True)
class Plan:
    """What a project is to be.

    Args:
        name: of the project, its registered model and its experiment.
        folder: of the labelled images; it stays as it is, its content is copied to `data/`.
        format: of the folder.
        options: of the format.
        model: a name of `segpipe models`; None keeps the present one.
        classes: names of the classes in the order of their values or colours, or one path of a file that lists their
            colours and names; where nothing else says them.
        grouping: what names the groups; None for the source's own.
    """

    name: str
    folder: Path
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    classes: Sequence[str] = ()
    grouping: Grouping | None = None


def make_texts(plan: Plan, source: Source, scratch: Path) -> dict[Path, str]:
    """Gives params.yaml, and the recipes that train on `data/`, for the new project.

    Raises:
        ConfigError: the plan gives no valid parameters.
    """
    present = load_config()
    if plan.name in (present.register_.model_name, present.train.experiment):
        raise ConfigError(f"--name {plan.name}: is the name of the present project; give another")
    values, comments = _values_of_data(plan, source)
    own = {**values, **_values_of_name(plan.name), **_values_of_model(plan.model, present)}
    texts = {PARAMS_FILE: set_values(PARAMS_FILE.read_text(encoding="utf-8"), own, comments)}
    for recipe in sorted(RECIPES.glob("*.yaml")):
        if load_config(recipe).download.source == DATA.as_posix():
            named = values | _values_of_name(f"{plan.name}-{recipe.stem}")
            texts[recipe] = set_values(recipe.read_text(encoding="utf-8"), named, comments, recipe)
    for path, text in texts.items():
        copy = scratch / path.name
        copy.write_text(text, encoding="utf-8")
        try:
            load_config(copy)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(copy), str(path))) from error
    return texts


def _values_of_data(plan: Plan, source: Source) -> tuple[Values, dict[str, str]]:
    """Gives the keys that say what the data are, and the comments that spoke of the starter's."""
    splits = {sample.official_split for sample in source.samples}
    keys: dict[str, str | None] = {"group_pattern": None, "group_column": None}
    if plan.grouping is not None:
        keys[plan.grouping.key] = plan.grouping.value
    values: Values = {
        "download.source": DATA.as_posix(),
        "download.format": plan.format,
        "download.options": dict(plan.options),
        "download.sha256": None,
        "download.join": {},
        "train.model.in_channels": 1 if _are_grey(source) else 3,
        "preprocess.classes": None,
        "preprocess.ignore": [],
        **{f"preprocess.{key}": value for key, value in keys.items()},
        "preprocess.split.val": "source" if "val" in splits else SHARE_KEPT_OUT,
        "preprocess.split.test": "source" if "test" in splits else SHARE_KEPT_OUT,
    }
    comments = {"preprocess.group_pattern": "^([^_]+)_ if the ids are SEQUENCE_FRAME; null: the source's own groups"}
    return values, comments


def _are_grey(source: Source) -> bool:
    """Whether images have one channel, by the headers of a few evenly spread ones."""
    chosen = source.samples[:: max(1, len(source.samples) // NUM_LOOKED_AT)]
    return all(_mode_of(sample.image) in GREY_MODES for sample in chosen)


def _mode_of(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            return picture.mode
    except OSError:  # an array, or no picture, which `segpipe data check` says
        return ""


def _values_of_name(name: str) -> Values:
    empty: Values = {"register.min_class_iou": {}, "register.accepted_problems": []}
    return {"train.experiment": name, "register.model_name": name, **empty}


def _values_of_model(name: str | None, present: Config) -> Values:
    """Gives the keys of another model; they name parts of the present one."""
    if name is None or name == present.train.model.name:
        return {}
    parts: Values = {"train.freeze": [], "train.freeze_batch_norm": [], "train.recompute": []}
    model: Values = {"name": MODELS.check(name), "options": {}, "weights": "none", "sha256": None}
    return {f"train.model.{key}": value for key, value in model.items()} | parts | {"train.learning_rate_factors": {}}
