"""Where a run came from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from segpipe.tracking.lineage import environment_tags, lineage_tags

DVC_LOCK = """\
schema: '2.0'
stages:
  download: {outs: [{path: build/raw, md5: aaa.dir}]}
  preprocess: {outs: [{path: build/dataset, md5: bbb.dir}]}
  train: {outs: [{path: build/model, md5: ccc.dir}]}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, apart from the machine's git settings."""
    (tmp_path / "code.py").write_text("a = 1\n")
    (tmp_path / "dvc.lock").write_text(DVC_LOCK)
    (tmp_path / "data.dvc").write_text("outs:\n- {md5: ddd.dir, path: data}\n")
    person = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*person, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)
    return tmp_path


def test_commit_and_hashes(repository: Path) -> None:
    tags = lineage_tags(repository)
    assert len(tags.pop("segpipe.git_commit")) == 40
    assert tags == {
        "segpipe.git_dirty": "false",
        "segpipe.dvc.data": "ddd.dir",
        "segpipe.dvc.build/raw": "aaa.dir",
        "segpipe.dvc.build/dataset": "bbb.dir",
    }


@pytest.mark.parametrize(
    ("file", "is_dirty"), [("code.py", "true"), ("data.dvc", "true"), ("dvc.lock", "false"), ("new.py", "false")]
)
def test_dirty_is_what_decides_the_result_and_is_not_committed(repository: Path, file: str, is_dirty: str) -> None:
    with (repository / file).open("a") as opened:
        opened.write("\n# changed\n")
    assert lineage_tags(repository)["segpipe.git_dirty"] == is_dirty


def test_without_git_and_dvc_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert lineage_tags(tmp_path) == {}
    monkeypatch.setenv("PATH", "")
    assert lineage_tags(tmp_path) == {}


@pytest.mark.parametrize("content", ["", "stages: [", "[]", "stages:\n"])
def test_a_broken_lock_file_does_not_stop_a_training(repository: Path, content: str) -> None:
    (repository / "dvc.lock").write_text(content)
    assert "segpipe.dvc.build/raw" not in lineage_tags(repository)


def test_environment_tags() -> None:
    assert environment_tags({"torch": "2"}) == {"segpipe.environment.torch": "2"}
