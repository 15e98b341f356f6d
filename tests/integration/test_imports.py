"""What a stage and the library load: a stage that needs no torch does not pay for it, and nothing needs Prefect."""

import json
import os
from pathlib import Path

import pytest
from integration.project import STAGES, Project

WITHOUT_TORCH = ("download", "preprocess", "class_weights", "register")

RUN_STAGE = """
import json, sys
from segpipe.config.params import load_config
from segpipe.stages import {stage} as stage
stage.main(getattr(load_config(), "{stage}".replace("register", "register_")))
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""

IMPORT_WITH_BLOCKED = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"albumentations", "mlflow", "dvc", "prefect"}:
            raise ImportError(f"blocked: {name}")

sys.meta_path.insert(0, Blocker())
for name in ("segpipe.training", "segpipe.inference", "segpipe.models", "segpipe.losses", "segpipe.metrics"):
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__, name + "."):
        importlib.import_module(module.name)
print("all imported")
"""


@pytest.mark.parametrize("stage", WITHOUT_TORCH)
def test_a_stage_that_needs_no_torch_never_imports_it(finished: Project, stage: str) -> None:
    # An empty store: register then logs the model, which is where MLflow would like to load it.
    (finished.root / "mlflow.db").unlink()
    modules = set(json.loads(finished.python(RUN_STAGE.format(stage=stage)).splitlines()[-1]))
    assert "segpipe" in modules
    assert not modules & {"torch", "torchvision", "prefect"}
    assert stage == "register" or "mlflow" not in modules


def test_a_look_at_the_registry_imports_neither_torch_nor_opencv(original: Project) -> None:
    commands = [["registry", *command.split()] for command in ("list", "show champion", "history")]
    look = f"import sys; from segpipe.cli import main; [main(one) for one in {commands}]"
    assert original.python(f"{look}; print({{'torch', 'cv2'}} & set(sys.modules))").splitlines()[-1] == "set()"


def test_no_stage_imports_prefect_or_the_interface_in_python(original: Project) -> None:
    imports = ", ".join(f"segpipe.stages.{stage}" for stage in STAGES)
    modules = set(original.python(f"import sys, {imports}; print(*sys.modules)").split())
    assert {"torch", "segpipe.stages.train"} <= modules
    assert not [name for name in modules if name.startswith(("prefect", "segpipe.api"))]


TRAP = """
from pathlib import Path
Path(__file__).with_name("was_imported").touch()
raise ImportError("nobody but the pipelines may import this")
"""


@pytest.mark.parametrize(
    "command",
    [
        ("segpipe", "--help"),
        ("segpipe", "check"),
        ("segpipe", "publish"),
        ("segpipe", "registry", "list"),
        ("dvc", "repro"),
        ("dvc", "repro", "--force", "--single-item", "class_weights"),
        ("dvc", "repro", "--force", "--single-item", "register"),
    ],
    ids=" ".join,
)
def test_what_a_user_runs_without_prefect_never_imports_it(
    finished: Project, tmp_path: Path, command: tuple[str, ...]
) -> None:
    for name in ("prefect", "pipelines"):
        (tmp_path / "traps" / name).mkdir(parents=True)
        (tmp_path / "traps" / name / "__init__.py").write_text(TRAP, encoding="utf-8")
    path = f"{tmp_path / 'traps'}{os.pathsep}{finished.root / 'src'}"
    user = Project(finished.root, {"PYTHONPATH": path})
    user.call(*command)
    assert not list((tmp_path / "traps").rglob("was_imported"))

    # The trap works: what ought to be caught is.
    user.run("python", "-c", "import pipelines.flows")
    assert list((tmp_path / "traps").rglob("was_imported"))


COLLECTED = """
import gc, sys
sys.orig_argv = ["python", "-m", "segpipe.stages.class_weights"]
import segpipe.stages
print(gc.isenabled())
from segpipe.config.class_weights import ClassWeights
from segpipe.places import CLASS_WEIGHTS
from segpipe.stages.stage import run_stage
run_stage(lambda settings: print(gc.isenabled(), gc.get_freeze_count() > 0), ClassWeights, CLASS_WEIGHTS)
"""


def test_garbage_is_collected_as_soon_as_a_stage_has_loaded_what_it_needs(sources: Project) -> None:
    assert sources.python(COLLECTED).split() == ["False", "True", "True"]


def test_the_engine_and_the_models_need_neither_albumentations_nor_the_three_tools(original: Project) -> None:
    assert original.python(IMPORT_WITH_BLOCKED).split() == ["all", "imported"]


def test_the_sources_under_test_are_the_projects_own(original: Project) -> None:
    assert original.python("import segpipe; print(segpipe.__file__)").startswith(str(original.root))
