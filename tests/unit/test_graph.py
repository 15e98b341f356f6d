"""`dvc.yaml` against the code: each stage depends on exactly what it imports and reads."""

import ast
import re
from pathlib import Path

import pytest
from import_closure import SOURCES, closure_of, file_of, imports_of
from ruamel.yaml import YAML

from segpipe.choices import AUGMENTATIONS, LOSSES, MODELS, READERS, WEIGHTINGS, Registry

ROOT = SOURCES.parent
GRAPH = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = list(GRAPH["stages"])
REGISTRIES = {
    "MODELS": MODELS,
    "LOSSES": LOSSES,
    "READERS": READERS,
    "WEIGHTINGS": WEIGHTINGS,
    "AUGMENTATIONS": AUGMENTATIONS,
}
# Where one is chosen the stage depends on its file and on what it shares, where a list is chosen on the whole folder.
CHOSEN_FILES = {
    "MODELS": "src/segpipe/models/${train.model.name}.py",
    "WEIGHTINGS": "src/segpipe/data/class_weights/schemes/${class_weights.scheme}.py",
}
CHOSEN_FOLDERS = {
    "READERS": "src/segpipe/data/readers",
    "AUGMENTATIONS": "src/segpipe/data/loading/augmentations",
    "LOSSES": "src/segpipe/losses",
}
# What the choices of a package share, whichever is chosen.
SHARED_FOLDERS = {"MODELS": "src/segpipe/models/parts"}
PAGES = {"preprocess": ("dataset.html.j2", "check.html.j2"), "evaluate": ("evaluation.html.j2",)}
TEMPLATES = SOURCES / "segpipe/reports/templates"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def registries_called(modules: set[str]) -> set[str]:
    """The registries from which any of the modules takes a choice by name (`MODELS.call(...)`)."""
    called = set()
    for module in modules:
        if module.startswith("segpipe.config"):  # which only checks options
            continue
        path = file_of(module)
        assert path is not None
        called |= set(re.findall(rf"\b({'|'.join(REGISTRIES)})\.call\(", path.read_text(encoding="utf-8")))
    return called


def expected_sources(stage: str) -> set[str]:
    modules = set(closure_of(f"segpipe.stages.{stage}"))
    called = registries_called(modules)
    for name in called:
        package = REGISTRIES[name].package
        modules |= closure_of(package)
        if name in CHOSEN_FOLDERS:
            modules |= set().union(*(closure_of(f"{package}.{choice}") for choice in REGISTRIES[name].names()))
    expected = {relative(path) for module in modules if (path := file_of(module))}
    folders = {**CHOSEN_FOLDERS, **SHARED_FOLDERS}
    for folder in (folders[name] for name in called & folders.keys()):
        expected = {path for path in expected if not path.startswith(f"{folder}/")} | {folder}
    expected |= {CHOSEN_FILES[name] for name in called & CHOSEN_FILES.keys()}
    return expected | {relative(TEMPLATES / name) for page in PAGES.get(stage, ()) for name in templates_of(page)}


def templates_of(page: str) -> set[str]:
    """A page's template, all that it extends, includes or imports, and so on."""
    text = (TEMPLATES / page).read_text(encoding="utf-8")
    used = re.findall(r'{%-? *(?:extends|include|import|from) +"([^"]+)"', text)
    return {page}.union(*(templates_of(name) for name in used))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_sources_that_it_imports(stage: str) -> None:
    listed = [dep for dep in GRAPH["stages"][stage]["deps"] if dep.startswith("src/")]
    assert len(listed) == len(set(listed))
    assert set(listed) == expected_sources(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_parameters_that_it_reads(stage: str) -> None:
    path = file_of(f"segpipe.stages.{stage}")
    assert path is not None
    read = {
        node.attr.rstrip("_")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }
    assert set(GRAPH["stages"][stage]["params"]) == read


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_holds_no_parameter_and_an_out_is_cached(stage: str) -> None:
    definition = GRAPH["stages"][stage]
    assert definition["cmd"] == f"PYTHONPATH=src exec python -m segpipe.stages.{stage}"
    assert all(isinstance(out, str) for out in definition["outs"]), "an option on an out switches the run-cache off"
    assert not {"always_changed", "frozen"} & definition.keys()
    assert definition["meta"]["pool"] in {"cpu", "gpu"}


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES.keys())
def test_a_choice_imports_nothing_that_its_stage_does_not_depend_on(registry: Registry) -> None:
    """Else a change to that file would not run the stage again."""
    stages = [stage for stage in STAGES if registry.package.replace(".", "/") in "".join(expected_sources(stage))]
    for name in registry.names():
        imported = closure_of(f"{registry.package}.{name}") - {f"{registry.package}.{name}"}
        for stage in stages:
            paths = {relative(path) for module in imported if (path := file_of(module))}
            folders = tuple(f"{folder}/" for folder in (*CHOSEN_FOLDERS.values(), *SHARED_FOLDERS.values()))
            missing = {path for path in paths if not path.startswith(folders)} - expected_sources(stage)
            assert not missing, f"{stage} does not depend on {missing}, which {name} imports"


FLOORS = [
    {"addresses", "terminal", "errors", "config", "registry", "files", "classes", "faults"},
    {"data", "models", "losses", "metrics"},
    {"engine"},
    {"tracking", "reports"},
    {"stages"},
    {"cli"},
]


def floor_of(module: str) -> int:
    part = module.split(".")[1]
    return next(number for number, names in enumerate(FLOORS) if part in names)


def all_modules() -> list[str]:
    files = sorted((SOURCES / "segpipe").rglob("*.py"))
    names = [".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names if name != "segpipe.__init__"]


@pytest.mark.parametrize("module", all_modules())
def test_imports_go_down_only(module: str) -> None:
    part, floor = module.split(".")[1], floor_of(module)
    for name in imports_of(module) - {"segpipe"}:
        other = name.split(".")[1]
        is_sibling = other == part or floor == 0
        assert floor_of(name) < floor or is_sibling, f"{module} imports {name}"


@pytest.mark.parametrize(("library", "owners"), [("mlflow", {"tracking"}), ("dvc", set()), ("prefect", set())])
def test_a_tool_is_imported_only_where_it_is_owned(library: str, owners: set[str]) -> None:
    for module in all_modules():
        path = file_of(module)
        assert path is not None
        imports = re.findall(rf"^\s*(?:from|import) {library}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not imports or module.split(".")[1] in owners, module


def test_the_folder_mlflow_holds_no_module_that_would_shadow_the_library() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))
