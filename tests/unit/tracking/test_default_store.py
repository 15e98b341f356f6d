"""Where the default store lies: one place for a clone, whoever works where in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from segpipe.tracking.default_store import artifact_location, current_experiment, default_store, find_home


def git(*arguments: str, cwd: Path) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with a project at its top and another one below."""
    clone = tmp_path / "clone"
    (clone / "below/src").mkdir(parents=True)
    for file in ("dvc.yaml", "below/dvc.yaml", "below/src/code.py"):
        (clone / file).write_text("", encoding="utf-8")
    git("init", "--quiet", cwd=clone)
    git("add", ".", cwd=clone)
    git("commit", "--quiet", "--message=first", cwd=clone)
    return clone


def test_a_worktree_and_a_folder_have_the_place_of_the_main_worktree(clone: Path, tmp_path: Path) -> None:
    git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), cwd=clone)
    assert find_home(clone) == find_home(tmp_path / "linked") == clone
    below = [clone / "below", clone / "below/src", tmp_path / "linked/below", tmp_path / "linked/below/src"]
    assert {find_home(folder) for folder in below} == {clone / "below"}


def test_a_submodule_a_bare_repository_and_no_repository_have_their_own(clone: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    git("init", "--quiet", str(outer), cwd=tmp_path)
    git("submodule", "add", "--quiet", str(clone), "inner", cwd=outer)
    assert find_home(outer / "inner/below/src") == outer / "inner/below"
    git("clone", "--quiet", "--bare", str(clone), str(tmp_path / "bare"), cwd=tmp_path)
    git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), cwd=tmp_path / "bare")
    assert find_home(tmp_path / "linked") == tmp_path / "linked"
    (tmp_path / "plain/folder").mkdir(parents=True)
    assert find_home(tmp_path / "plain/folder") == tmp_path / "plain/folder"
    (tmp_path / "plain/dvc.yaml").write_text("", encoding="utf-8")
    assert find_home(tmp_path / "plain/folder") == tmp_path / "plain"


def test_an_experiment_has_the_place_of_the_clone_that_started_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = clone / ".dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    git("clone", "--quiet", str(clone), str(copy), cwd=clone)
    monkeypatch.chdir(copy / "below")
    monkeypatch.setenv("DVC_ROOT", str(clone / "below"))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert current_experiment() is None
    assert default_store() == f"sqlite:///{copy}/below/mlflow.db"  # DVC gives DVC_ROOT to every stage
    monkeypatch.setenv("DVC_EXP_NAME", "lunar-rune")
    assert current_experiment() == "lunar-rune"
    assert default_store() == f"sqlite:///{clone}/below/mlflow.db"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("sqlite:////srv/team/mlflow.db", "/srv/team/mlruns/a_b"),
        ("sqlite:////srv/team/mlflow.db?timeout=60", "/srv/team/mlruns/a_b"),
        ("sqlite:///file:/srv/team/mlflow.db?mode=ro&uri=true", "/srv/team/mlruns/a_b"),
        ("http://127.0.0.1:5000", None),
        ("postgresql://user@host/mlflow", None),
    ],
)
def test_files_lie_next_to_the_stores_own(address: str, place: str | None) -> None:
    assert artifact_location(address, "a/b") == place


def test_the_files_of_a_relative_store_do_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert artifact_location("sqlite:///mlflow.db", "..") == f"{tmp_path}/mlruns/__"
