"""The starter, whose data and parameters `segpipe init` replaces in a clone: tests take neither from the clone itself.

A test that needs any whole parameter file takes `make_params`; one of the starter's own images takes the fixture
`starter_folder`, which skips where they are gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from segpipe.config.params_edit import set_values

REPOSITORY = Path(__file__).parents[1]
DATA = REPOSITORY / "data"
NAME = "streets"
LICENCE = "rendered by segpipe; free for any use"
VAL = [f"street{number}" for number in range(22, 26)]
TEST = [f"street{number}" for number in range(26, 30)]
NOT_HERE = "this clone is no longer the starter: `segpipe init` has put the project's own images in data/"

_VALUES = {
    "download.source": "data",
    "download.format": "folder",
    "download.options": {},
    "download.sha256": None,
    "download.join": {},
    "preprocess.classes": None,
    "preprocess.ignore": [],
    "preprocess.group_pattern": "^([^_]+)_",
    "preprocess.group_column": None,
    "preprocess.split.val": VAL,
    "preprocess.split.test": TEST,
    "preprocess.policy.actions": {},
    "train.model.in_channels": 3,
    "register.accepted_problems": [],
}
_COMMENTS = {
    "preprocess.group_pattern": "street07_003: the sequence is street07",
    "preprocess.split.test": "is only reported",
}


def is_here() -> bool:
    """Whether this clone has the starter's data."""
    path = DATA / "dataset.yaml"
    if not path.is_file():
        return False
    document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return document.get("licence") == LICENCE and (DATA / "images/street00_000.jpg").is_file()


def make_params(recipe: str = "camvid", name: str = NAME, **of_train: Any) -> str:
    """Gives a parameter file with every key that trains on the starter's data, whatever `params.yaml` says here.

    Args:
        recipe: the file below `recipes/` that has all other values.
        name: of experiment and model.
        of_train: other values of the section `train`.
    """
    own = {"train.experiment": name, "register.model_name": name, **{f"train.{k}": v for k, v in of_train.items()}}
    path = REPOSITORY / f"recipes/{recipe}.yaml"
    return set_values(path.read_text(encoding="utf-8"), _VALUES | own, _COMMENTS)
