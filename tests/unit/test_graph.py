"""`dvc.yaml` against the code: what decides a stage's result is a dependency, and nothing else of ours is."""

import ast
import re
from pathlib import Path

import pytest
from import_closure import SOURCES, closure_of, file_of
from ruamel.yaml import YAML

from segpipe.choices import AUGMENTATIONS, EVIDENCE, LOSSES, METRICS, MODELS, READERS, TABLES, WEIGHTINGS
from segpipe.code import DECIDE_NOTHING, PACKAGE, decides
from segpipe.config.params import Config

ROOT = SOURCES.parent
GRAPH = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = list(GRAPH["stages"])
CHOSEN_MODEL = "models/${train.model.name}.py"
# The choices that a stage's code takes by name. `preprocess` learns of a changed reader from what `download` notes.
CHOICES = {
    "download": (READERS,),
    "class_weights": (WEIGHTINGS,),
    "train": (LOSSES, AUGMENTATIONS, MODELS),
    "evaluate": (MODELS, LOSSES, METRICS, EVIDENCE, TABLES),
}
# A stage's params besides its section: single keys of another stage's.
SINGLE_KEYS = {"evaluate": ("register.block_length",)}


def own_deps(stage: str) -> list[str]:
    """A stage's dependencies in the package, by their places in it."""
    deps = [dep for dep in GRAPH["stages"][stage]["deps"] if dep.startswith("src/")]
    return [dep.removeprefix("src/segpipe/") for dep in deps]


def deciding_files(stage: str) -> set[str]:
    """The files with code that a stage imports, with all that can be chosen by name, without what decides nothing."""
    modules = set(closure_of(f"segpipe.stages.{stage}"))
    for registry in CHOICES.get(stage, ()):
        modules |= set().union(*(closure_of(f"{registry.package}.{name}") for name in registry.names()))
    files = {path for module in modules if (path := file_of(module))}
    return {path.relative_to(PACKAGE).as_posix() for path in files if decides(path) and has_code(path)}


def has_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return not all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def is_model(file: str) -> bool:
    return re.fullmatch(r"models/\w+\.py", file) is not None and not file.endswith("__init__.py")


@pytest.mark.parametrize("stage", STAGES)
def test_what_decides_a_result_is_a_dependency_and_nothing_else(stage: str) -> None:
    deps, files = own_deps(stage), deciding_files(stage)
    assert len(deps) == len(set(deps))
    covered = {file for file in files if any(f"{file}/".startswith(f"{dep}/") for dep in deps)}
    if CHOSEN_MODEL in deps:
        covered |= {file for file in files if is_model(file)}
    assert files == covered, "dvc.yaml lacks them (or src/segpipe/code.py)"
    unused = {dep for dep in deps if dep != CHOSEN_MODEL and not any(f"{f}/".startswith(f"{dep}/") for f in files)}
    assert not unused, "dvc.yaml names what the stage does not import"


@pytest.mark.parametrize("stage", STAGES)
def test_a_room_that_decides_nothing_is_no_dependency(stage: str) -> None:
    for dep in own_deps(stage):
        assert not dep.startswith(DECIDE_NOTHING) and not f"{dep}/".startswith(DECIDE_NOTHING)


def test_what_decides_nothing_is_there() -> None:
    assert all((PACKAGE / place).exists() for place in DECIDE_NOTHING)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_section_that_it_loads(stage: str) -> None:
    path = file_of(f"segpipe.stages.{stage}")
    assert path is not None
    (section,) = re.findall(r"run_stage\(main, (\w+), \w+\)", path.read_text(encoding="utf-8"))
    keys = {field.annotation.__name__: field.alias or name for name, field in Config.model_fields.items()}
    assert GRAPH["stages"][stage]["params"] == [keys[section], *SINGLE_KEYS.get(stage, ())]


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_holds_no_parameter_and_an_out_is_cached(stage: str) -> None:
    definition = GRAPH["stages"][stage]
    assert definition["cmd"] == f"PYTHONPATH=src exec python -m segpipe.stages.{stage}"
    assert all(isinstance(out, str) for out in definition["outs"]), "an option on an out switches the run-cache off"
    assert not {"always_changed", "frozen"} & definition.keys()
    assert definition["meta"]["pool"] in {"cpu", "gpu"}


def test_the_folder_mlflow_holds_no_module_that_would_shadow_the_library() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))
