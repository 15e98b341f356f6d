"""Where a run came from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from segpipe.tracking import lineage
from segpipe.tracking.lineage import RunLineage, environment_tags, lineage_files, lineage_tags, searched_tags

PARAMS, RECIPE = "train: {epochs: 9}\n", "train: {epochs: 1}\n"
DVC_LOCK = """\
schema: '2.0'
stages:
  download: {outs: [{path: build/raw, md5: aaa.dir}]}
  preprocess: {outs: [{path: build/dataset, md5: bbb.dir}]}
  train: {outs: [{path: build/model, md5: ccc.dir}]}
"""


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture(autouse=True)
def _own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps the machine's git settings out."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "repository"
    files = {
        "src/code.py": "a = 1\n",
        "params.yaml": PARAMS,
        "recipes/quick.yaml": RECIPE,
        "dvc.lock": DVC_LOCK,
        "data.dvc": "outs:\n- {md5: ddd.dir, path: data}\n",
        ".gitignore": "/build/\n__pycache__/\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    return root


# Tags


def test_commit_and_hashes(repository: Path) -> None:
    entries = {
        "download": {"outs": [{"path": "build/raw", "md5": "aaa.dir"}]},
        "preprocess": {"outs": [{"path": "build/dataset", "md5": "bbb.dir"}]},
        "train": {"outs": [{"path": "build/model", "md5": "ccc.dir"}]},
    }
    assert lineage_tags(repository) == {
        "segpipe.git_commit": git(repository, "rev-parse", "HEAD"),
        "segpipe.git_dirty": "false",
        "segpipe.dvc.data": "ddd.dir",
        "segpipe.dvc.build/raw": "aaa.dir",
        "segpipe.dvc.build/dataset": "bbb.dir",
        "segpipe.dvc_lock_sha256": hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest(),
    }


@pytest.mark.parametrize(
    ("file", "is_dirty"),
    [
        ("src/code.py", "true"),
        ("data.dvc", "true"),
        ("params.yaml", "true"),
        ("dvc.lock", "false"),
        ("src/new.py", "true"),
        ("recipes/new.yaml", "true"),
        ("labels/new.dvc", "true"),
        ("new.py", "false"),
        ("src/__pycache__/code.pyc", "false"),
    ],
)
def test_dirty_is_what_decides_the_result_and_is_not_committed(repository: Path, file: str, is_dirty: str) -> None:
    (repository / file).parent.mkdir(exist_ok=True)
    with (repository / file).open("a") as opened:
        opened.write("\n# changed\n")
    assert lineage_tags(repository)["segpipe.git_dirty"] == is_dirty


def test_what_is_staged_or_removed_is_not_committed(repository: Path) -> None:
    (repository / "src/code.py").unlink()
    assert lineage_tags(repository)["segpipe.git_dirty"] == "true"
    git(repository, "checkout", "--", "src/code.py")
    assert lineage_tags(repository)["segpipe.git_dirty"] == "false"
    (repository / "new.py").write_text("b = 2\n")
    git(repository, "add", "new.py")
    assert lineage_tags(repository)["segpipe.git_dirty"] == "true"


def test_a_recipe_in_the_place_of_the_parameters_is_named_and_not_dirty(repository: Path) -> None:
    (repository / "params.yaml").write_text(RECIPE)
    tags = lineage_tags(repository)
    assert (tags["segpipe.recipe"], tags["segpipe.git_dirty"]) == ("quick", "false")
    assert "uncommitted.patch" not in lineage_files(repository)

    (repository / "src/code.py").write_text("a = 2\n")
    tags = lineage_tags(repository)
    assert (tags["segpipe.recipe"], tags["segpipe.git_dirty"]) == ("quick", "true")


def test_a_recipe_that_is_not_committed_is_none(repository: Path) -> None:
    for name in ("params.yaml", "recipes/quick.yaml"):
        (repository / name).write_text("train: {epochs: 2}\n")
    tags = lineage_tags(repository)
    assert "segpipe.recipe" not in tags
    assert tags["segpipe.git_dirty"] == "true"


def test_the_lock_s_digest_is_of_its_entries_and_leaves_out_register(repository: Path) -> None:
    def digest() -> str:
        return lineage_tags(repository)["segpipe.dvc_lock_sha256"]

    before = digest()
    with (repository / "dvc.lock").open("a") as lock:
        lock.write("  register: {outs: [{path: build/registration.json, md5: eee}]}\n")
    assert digest() == before
    (repository / "dvc.lock").write_text(
        DVC_LOCK.replace("{path: build/raw, md5: aaa.dir}", "{md5: aaa.dir, path: build/raw}")
    )
    assert digest() == before
    (repository / "dvc.lock").write_text(DVC_LOCK.replace("ccc", "ccd"))
    assert digest() != before


def test_a_project_below_the_repository_s_top(repository: Path) -> None:
    (repository / "README.md").write_text("about\n")
    git(repository, "add", "README.md")
    assert lineage_tags(repository / "src")["segpipe.git_dirty"] == "false"
    (repository / "src/code.py").write_text("a = 2\n")
    assert lineage_tags(repository / "src")["segpipe.git_dirty"] == "true"


def test_without_git_and_dvc_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert lineage_tags(tmp_path / "empty") == lineage_files(tmp_path / "empty") == {}
    monkeypatch.setenv("PATH", "")
    assert lineage_tags(tmp_path / "empty") == lineage_files(tmp_path / "empty") == {}


def test_without_git_the_pointers_are_still_found(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert lineage_tags(repository)["segpipe.dvc.data"] == "ddd.dir"
    assert lineage_files(repository).keys() == {"params.yaml", "dvc.lock", "data.dvc"}


@pytest.mark.parametrize("content", ["", "stages: [", "[]", "stages:\n", "stages: {download: 1}\n"])
def test_a_broken_lock_file_does_not_stop_a_training(repository: Path, content: str) -> None:
    (repository / "dvc.lock").write_text(content)
    assert "segpipe.dvc.build/raw" not in lineage_tags(repository)


def test_environment_tags() -> None:
    assert environment_tags({"torch": "2"}) == {"segpipe.environment.torch": "2"}


# Files


def test_the_files_that_are_kept(repository: Path) -> None:
    dataset = repository / "build/dataset"
    dataset.mkdir(parents=True)
    for name in ("source.json", "report.json", "shards.bin"):
        (dataset / name).write_text(name)
    (repository / "labels").mkdir()
    (repository / "labels/more.dvc").write_text("outs:\n- {md5: eee.dir, path: more}\n")
    git(repository, "add", "labels")
    git(repository, "commit", "--quiet", "--message", "more")
    assert lineage_files(repository) == {
        "params.yaml": PARAMS.encode(),
        "dvc.lock": DVC_LOCK.encode(),
        "data.dvc": b"outs:\n- {md5: ddd.dir, path: data}\n",
        "labels/more.dvc": b"outs:\n- {md5: eee.dir, path: more}\n",
        "source.json": b"source.json",
        "report.json": b"report.json",
    }


def test_the_patch_brings_the_commit_to_what_was_trained(repository: Path, tmp_path: Path) -> None:
    changed = {
        "src/code.py": b"a = 2\n",
        "src/new file [1].py": b"b = 1\n",
        "src/table.bin": bytes(range(256)),
        "recipes/straße.yaml": b"train: {}\n",
        "params.yaml": b"train: {epochs: 3}\n",
    }
    for name, content in changed.items():
        (repository / name).write_bytes(content)
    (repository / "data.dvc").unlink()
    (repository / "notes.txt").write_text("not decisive\n")
    (repository / "dvc.lock").write_text("stages: {}\n")
    before = git(repository, "status", "--porcelain"), (repository / ".git/index").read_bytes()

    patch = lineage_files(repository)["uncommitted.patch"]

    assert (git(repository, "status", "--porcelain"), (repository / ".git/index").read_bytes()) == before
    git(repository, "worktree", "add", "--quiet", "--detach", str(tmp_path / "again"), "HEAD")
    subprocess.run(["git", "apply"], cwd=tmp_path / "again", input=patch, check=True)
    for name, content in changed.items():
        assert (tmp_path / "again" / name).read_bytes() == content, name
    assert not (tmp_path / "again/data.dvc").exists()
    assert not (tmp_path / "again/notes.txt").exists()
    assert (tmp_path / "again/dvc.lock").read_text() == DVC_LOCK


def test_a_user_s_settings_of_git_do_not_spoil_the_patch(repository: Path, tmp_path: Path) -> None:
    for setting in ("diff.noprefix=true", "diff.external=false", "color.ui=always", "diff.mnemonicPrefix=true"):
        git(repository, "config", "--global", *setting.split("="))
    (repository / "src/code.py").write_text("a = 2\n")
    patch = lineage_files(repository)["uncommitted.patch"]
    git(repository, "checkout", "--", "src/code.py")
    subprocess.run(["git", "apply"], cwd=repository, input=patch, check=True)
    assert (repository / "src/code.py").read_text() == "a = 2\n"


def test_a_patch_that_is_too_long_is_not_kept_and_its_files_are_listed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "MAX_PATCH_BYTES", 1000)
    (repository / "src/code.py").write_bytes(os.urandom(2000))
    (repository / "src/new.py").write_text("b = 1\n")
    files = lineage_files(repository)
    assert "uncommitted.patch" not in files
    assert files["uncommitted.txt"].decode().splitlines() == [
        "The uncommitted changes are not kept: git diff prints more than 1,000 bytes. These files were changed:",
        "src/code.py",
        "src/new.py",
    ]


def test_a_clean_tree_has_no_patch(repository: Path) -> None:
    (repository / "dvc.lock").write_text("stages: {}\n")
    assert not {"uncommitted.patch", "uncommitted.txt"} & lineage_files(repository).keys()


def test_of_the_lineage_a_run_gets_the_tags_that_people_search_by() -> None:
    tags = {
        "segpipe.git_commit": "c0ffee",
        "segpipe.dvc_lock_sha256": "abc",
        "segpipe.dvc.data": "ddd.dir",
        "segpipe.environment.torch": "2",
        "segpipe.environment.device": "cpu",
    }
    kept = {"segpipe.git_commit", "segpipe.dvc_lock_sha256", "segpipe.environment.device"}
    assert searched_tags(tags) == {name: tags[name] for name in kept}
    lineage = RunLineage.of(tags)
    assert (lineage.data, lineage.environment) == ({"data": "ddd.dir"}, {"torch": "2", "device": "cpu"})
    assert lineage.to_tags().keys() | kept == tags.keys()
