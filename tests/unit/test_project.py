"""Git and DVC give the same answers with any user's settings, and a clone at a commit is that commit."""

import os
import subprocess
from pathlib import Path

import pytest

from segpipe import project
from segpipe.errors import CommandError
from segpipe.project import DvcConfig, ask_git, clone_at, dvc, git, git_bytes, git_bytes_up_to, list_git, succeeds


def run(where: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with two commits; the machine's git settings are kept out."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
    root = tmp_path / "clone"
    (root / "below").mkdir(parents=True)
    run(root, "init", "--quiet", "--initial-branch", "main")
    for text in ("first", "second"):
        (root / "below/file.txt").write_text(text, encoding="utf-8")
        run(root, "add", ".")
        run(root, "commit", "--quiet", "--message", text)
    return root


def test_what_git_prints_and_why_it_failed(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git(clone, "log", "-1", "--format=%s") == "second"
    assert git_bytes(clone, "log", "-1", "--format=%s") == b"second\n"
    with pytest.raises(CommandError) as caught:
        git(clone, "rev-parse", "--verify", "nowhere")
    assert caught.value.lines == ("fatal: Needed a single revision",)
    assert str(clone) in str(caught.value)
    assert ask_git(clone, "rev-parse", "--verify", "nowhere") == ""
    assert not succeeds(clone, "rev-parse", "--verify", "nowhere")
    assert list_git(clone, "rev-parse", "nowhere") == ()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError):
        git(clone, "status")
    assert not succeeds(clone, "status")


def test_names_are_listed_as_they_are(clone: Path) -> None:
    odd = "two\nlines 道路.txt"
    (clone / odd).touch()
    assert list_git(clone, "ls-files", "--others") == (odd,)


def test_a_command_that_takes_too_long_is_stopped(clone: Path) -> None:
    run(clone, "config", "alias.wait", "!exec sleep 100")
    with pytest.raises(CommandError, match=r"more than 0\.2 s"):
        git(clone, "wait", timeout_seconds=0.2)


def test_more_than_may_be_printed_is_an_error(clone: Path) -> None:
    assert git_bytes_up_to(6, clone, "cat-file", "blob", "HEAD:below/file.txt") == b"second"
    with pytest.raises(CommandError, match="more than 5 bytes"):
        git_bytes_up_to(5, clone, "cat-file", "blob", "HEAD:below/file.txt")
    with pytest.raises(CommandError, match="exit code"):
        git_bytes_up_to(5, clone, "cat-file", "blob", "HEAD:nowhere")


def test_what_a_user_put_in_a_commit_s_place_does_not_count(clone: Path) -> None:
    run(clone, "replace", "HEAD", "HEAD~1")
    assert run(clone, "log", "-1", "--format=%s") == "first"
    assert git(clone, "log", "-1", "--format=%s") == "second"


def test_a_clone_has_the_commit_and_neither_a_branch_nor_hooks(clone: Path, tmp_path: Path) -> None:
    hook = tmp_path / "hooks/post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n", encoding="utf-8")
    hook.chmod(0o755)
    run(clone, "config", "--global", "core.hooksPath", str(hook.parent))
    first = run(clone, "rev-parse", "HEAD~1")

    clone_at(clone / "below", first, tmp_path / "other")

    assert (tmp_path / "other/below/file.txt").read_text(encoding="utf-8") == "first"
    assert run(tmp_path / "other", "rev-parse", "HEAD") == first
    assert run(tmp_path / "other", "branch", "--show-current") == ""
    assert not (tmp_path / "hook-ran").exists()


def test_a_commit_that_only_a_remote_branch_holds_can_be_cloned(clone: Path, tmp_path: Path) -> None:
    second = run(clone, "rev-parse", "HEAD")
    run(clone, "update-ref", "refs/remotes/origin/labels", second)
    run(clone, "reset", "--quiet", "--hard", "HEAD~1")
    clone_at(clone, second, tmp_path / "other")
    assert run(tmp_path / "other", "rev-parse", "HEAD") == second


def test_a_commit_of_a_shallow_clone_can_be_cloned(clone: Path, tmp_path: Path) -> None:
    second = run(clone, "rev-parse", "HEAD")
    run(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{clone}", "shallow")
    run(tmp_path / "shallow", "checkout", "--quiet", "--orphan", "another")
    run(tmp_path / "shallow", "commit", "--quiet", "--message", "another")
    run(tmp_path / "shallow", "branch", "--delete", "--force", "main")
    clone_at(tmp_path / "shallow", second, tmp_path / "other")
    assert run(tmp_path / "other", "rev-parse", "HEAD") == second


def test_a_setting_of_dvc_that_is_not_there_is_an_error(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        project, "DVC", ("sh", "-c", 'test "$1" = set && echo value || { echo no >&2; exit 3; }', "dvc")
    )
    assert dvc(clone, "set") == "value"
    with pytest.raises(CommandError) as caught:
        dvc(clone, "unset")
    assert caught.value.lines == ("no",)


def test_the_settings_of_dvc_are_read_as_dvc_writes_them(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = a\n['remote \"a\"']\n    url = 50%\n", encoding="utf-8")
    (tmp_path / ".dvc/config.local").write_text("[core]\n    remote = b\n", encoding="utf-8")
    settings = DvcConfig(tmp_path)
    assert settings.get("core", "remote") == "b"
    assert settings.get("'remote \"a\"'", "url") == "50%"
