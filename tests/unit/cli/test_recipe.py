"""`segpipe recipe`: what it lists, and that nothing uncommitted is lost by using one."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from starter import make_params

from segpipe.cli import recipe as recipe_module
from segpipe.cli.recipe import add_commands, list_changes, read_comment
from segpipe.errors import ConfigError

ROOT = Path(__file__).parents[3]


def _git(*arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the starter's parameters and two recipes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(make_params(epochs=62), encoding="utf-8")
    (tmp_path / "recipes/sources").mkdir(parents=True)
    (tmp_path / "recipes/smoke.yaml").write_text(make_params("smoke", "smoke"), encoding="utf-8")
    for name in ("fcn8s_voc.yaml", "sources/voc2012_sbd.yaml"):
        shutil.copyfile(ROOT / "recipes" / name, tmp_path / "recipes" / name)
    _git("init", "--quiet")
    _git("add", ".")
    _git("commit", "--quiet", "--message=first")
    return tmp_path


def _run(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    options = parser.parse_args(["recipe", *arguments])
    options.run(options)


def test_the_list_names_model_data_and_the_first_sentence(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["fcn8s_voc", "fcn8s_vgg16", "public:voc2012_sbd"],
        ["smoke", "compact_fpn", "data"],
    ]
    assert lines[2].endswith(
        "  The starter data for one epoch: tries every stage and service in a minute, and gives no useful model."
    )
    _run("list", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert [recipe["name"] for recipe in listed] == ["fcn8s_voc", "smoke"]
    assert listed[0].keys() == {"name", "model", "data", "about"}


def test_a_broken_recipe_is_named_and_the_others_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "recipes/broken.yaml").write_text("# Nothing.\ntrain: 3\n")
    with pytest.raises(ConfigError, match=r"recipes/broken\.yaml: train: must "):
        _run("list")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_show_prints_the_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("show", "smoke")
    assert capsys.readouterr().out == (project / "recipes/smoke.yaml").read_text()


def test_a_comment_ends_where_the_parameters_begin(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# One\n#   two. Three.\n\n# not this\ntrain: 1  # nor this\n")
    assert read_comment(path) == "One two. Three."
    path.write_text("train: 1\n")
    assert read_comment(path) == ""


def test_use_takes_the_recipe_and_says_what_changed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("use", "smoke")
    assert (project / "params.yaml").read_bytes() == (project / "recipes/smoke.yaml").read_bytes()
    printed = capsys.readouterr().out
    assert printed.startswith("params.yaml now has the content of recipes/smoke.yaml.\n")
    assert '  train.experiment: "streets" -> "smoke"\n' in printed
    assert "  train.epochs: 62 -> 1\n" in printed
    _run("use", "smoke")
    assert capsys.readouterr().out == "params.yaml already has the content of recipes/smoke.yaml\n"


def test_many_changes_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("use", "fcn8s_voc")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == recipe_module.MAX_CHANGES_SHOWN + 3
    assert lines[-2].startswith("  and ")


def test_from_one_recipe_to_the_next_nothing_is_lost(project: Path) -> None:
    _run("use", "smoke")
    _run("use", "fcn8s_voc")
    assert (project / "params.yaml").read_bytes() == (project / "recipes/fcn8s_voc.yaml").read_bytes()


def test_uncommitted_parameters_are_kept_unless_forced(project: Path) -> None:
    path = project / "params.yaml"
    mine = path.read_text().replace("epochs: 62", "epochs: 63")
    path.write_text(mine)
    with pytest.raises(ConfigError, match=r"params\.yaml.*commit.*--force"):
        _run("use", "smoke")
    assert path.read_text() == mine
    # What is staged is in no commit either.
    _git("add", "params.yaml")
    with pytest.raises(ConfigError, match="in no commit"):
        _run("use", "smoke")
    _run("use", "smoke", "--force")
    assert path.read_text() == (project / "recipes/smoke.yaml").read_text()


def test_parameters_that_git_does_not_know_are_kept(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / ".git")
    with pytest.raises(ConfigError, match="in no commit"):
        _run("use", "smoke")
    (project / "params.yaml").unlink()
    _run("use", "smoke")
    assert (project / "params.yaml").exists()


def test_without_git_nothing_is_overwritten(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    with pytest.raises(ConfigError, match="in no commit"):
        _run("use", "smoke")


def test_a_broken_recipe_is_not_used(project: Path) -> None:
    (project / "recipes/broken.yaml").write_text("train: 3\n")
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"recipes/broken\.yaml"):
        _run("use", "broken", "--force")
    assert (project / "params.yaml").read_bytes() == before


def test_a_write_that_fails_leaves_the_parameters(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:9])
        raise OSError("no space")

    before = (project / "params.yaml").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        _run("use", "smoke")
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("command", ["show", "use"])
def test_an_unknown_name_gets_the_nearest(project: Path, command: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown.*'fcn8_voc'.*'fcn8s_voc'.*known.*fcn8s_voc"):
        _run(command, "fcn8_voc")
    with pytest.raises(ConfigError, match=r"^unknown recipe '\.\./params'"):
        _run(command, "../params")


def test_another_folder_has_no_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^recipes: .*no recipe.*root folder"):
        _run("list")


def test_changes_are_named_by_dotted_keys() -> None:
    before = {"a": {"b": 1, "c": [1, 2], "old": {}}, "same": None}
    after = {"a": {"b": 2.5, "c": [1, 2]}, "same": None, "new": {"x": "y" * 99}}
    assert list_changes(before, after) == ["a.b: 1 -> 2.5", f'new.x: "{"y" * 46}...', "a.old: removed"]
