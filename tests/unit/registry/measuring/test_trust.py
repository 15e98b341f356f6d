"""Whose code runs a registered model: of today, of a published commit, or nobody's."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from import_closure import closure_of, file_of
from mlflow.entities.model_registry import ModelVersion

import segpipe
from segpipe.choices import MODELS
from segpipe.errors import IncomparableError
from segpipe.registry.measuring.confine import few_variables
from segpipe.registry.measuring.trust import PREDICTING, PREDICTING_FOLDER, by_this_package, find_code

PACKAGE = Path(segpipe.__path__[0])
# What decides no mask: messages, names of files, and packages whose __init__ is empty but for its docstring.
WITHOUT_EFFECT = {
    "places.py",
    "__init__.py",
    "config/__init__.py",
    "config/section.py",
    "faults.py",
    "addresses.py",
    "inference/__init__.py",
    "errors.py",
    "files.py",
    "serving/__init__.py",
}
# What decodes and encodes the files of a request: a model is measured on pixels.
CODING = ("data/__init__.py", "data/images/", "reports/__init__.py", "reports/drawing/", "serving/encoded.py")


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a bare origin, whose only commit holds today's sources."""
    shutil.copytree(PACKAGE, tmp_path / "clone/src/segpipe", ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "origin")
    root = tmp_path / "clone"
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "remote", "add", "origin", "../origin")
    commit_all(root)
    git(root, "push", "--quiet", "origin", "main")
    return root


def commit_all(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "sources")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[Path], Path]:
    """Gives the folder of a model that was registered with a package."""

    def make(package: Path) -> Path:
        model = tmp_path / "model"
        (model / "artifacts/model").mkdir(parents=True)
        (model / "artifacts/model/model.json").write_text(json.dumps({"model": {"name": "unet"}}))
        (model / "artifacts/model/weights.safetensors").touch()
        shutil.copytree(package, model / "code/segpipe", ignore=shutil.ignore_patterns("__pycache__"))
        return model

    return make


def version(commit: str) -> ModelVersion:
    """The tenth version, by mallory."""
    tags = {"segpipe.git_commit": commit, "mlflow.user": "mallory"}
    found = ModelVersion("boxes", "10", 0, source="models:/m-1")
    found._tags = tags
    return found


def change(package: Path) -> None:
    """Changes the sources so that each mask would be another."""
    logits = package / "inference/logits.py"
    logits.write_text(logits.read_text(encoding="utf-8") + "\nMEAN_RGB = (0, 0, 0)\n", encoding="utf-8")


def test_all_that_decides_a_mask_is_compared() -> None:
    modules = ["segpipe.inference.network", "segpipe.inference.device", "segpipe.serving.served_model"]
    modules += [f"segpipe.models.{name}" for name in MODELS.names()]
    files = {file_of(module) for name in modules for module in closure_of(name)}
    names = {file.relative_to(PACKAGE).as_posix() for file in files if file}
    models = {f"models/{name}.py" for name in MODELS.names()}
    parts = {name for name in names if name.startswith(PREDICTING_FOLDER)}
    coding = {name for name in names if name.startswith(CODING)}
    assert names - models - parts - coding - WITHOUT_EFFECT == {*PREDICTING, "serving/served_model.py"}


def test_todays_code_runs_what_was_registered_with_it(
    make_model: Callable[[Path], Path], clone: Path, tmp_path: Path
) -> None:
    model = make_model(PACKAGE)
    (model / "code/segpipe/cli/__init__.py").write_text("another command")
    (model / "code/numpy.py").write_text("raise SystemExit")  # of the folder nothing is imported
    found = find_code(version(""), model, tmp_path / "sources", clone, is_trusted=False)
    assert found == by_this_package(model / "artifacts/model")
    assert found.sources == PACKAGE.parent


@pytest.mark.parametrize("is_pushed", [True, False], ids=["pushed", "dangling"])
def test_a_commits_code_runs_what_was_registered_with_it_if_the_commit_is_published(
    make_model: Callable[[Path], Path], clone: Path, tmp_path: Path, is_pushed: bool
) -> None:
    change(clone / "src/segpipe")
    commit = commit_all(clone)
    model = make_model(clone / "src/segpipe")
    if is_pushed:
        git(clone, "push", "--quiet", "origin", f"{commit}:refs/tags/v1")
    else:
        git(clone, "push", "--quiet", "origin", f"{commit}:refs/other/x")
    git(clone, "reset", "--quiet", "--hard", "HEAD~1")

    def find() -> Path | None:
        return find_code(version(commit), model, tmp_path / "sources", clone, is_trusted=False).sources

    if is_pushed:
        assert find() == tmp_path / "sources/src"
        text = (tmp_path / "sources/src/segpipe/inference/logits.py").read_text(encoding="utf-8")
        assert text.endswith("MEAN_RGB = (0, 0, 0)\n")
    else:
        with pytest.raises(IncomparableError, match=r"mallory stored with it .*its origin(.|\n)*--trust"):
            find()


def test_a_registry_that_names_another_commit_than_the_models_is_not_believed(
    make_model: Callable[[Path], Path], clone: Path, tmp_path: Path
) -> None:
    model = make_model(PACKAGE)
    change(model / "code/segpipe")
    with pytest.raises(IncomparableError, match="Python code that mallory stored"):
        find_code(version(git(clone, "rev-parse", "HEAD")), model, tmp_path / "sources", clone, is_trusted=False)
    assert find_code(version("--help"), model, tmp_path / "sources", clone, is_trusted=True).sources is None


def test_a_models_process_gets_no_secrets() -> None:
    secrets = {"MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "HF_TOKEN", "PGPASSWORD"}
    kept = few_variables(dict.fromkeys([*secrets, "PATH", "CUDA_VISIBLE_DEVICES", "LC_ALL"], "x"))
    assert kept == {"PATH": "x", "CUDA_VISIBLE_DEVICES": "x", "LC_ALL": "x"}
