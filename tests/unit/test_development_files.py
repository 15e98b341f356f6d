"""The files for containers, editors, hooks and hosted checks call what the Makefile calls."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYTHON = re.findall(r"^PYTHON \?= python([\d.]+)$", MAKEFILE, re.MULTILINE)[0]


def read_yaml(name: str) -> dict[str, object]:
    document: dict[str, object] = YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))
    return document


def test_the_hosted_check_runs_what_runs_everywhere() -> None:
    workflow = (ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8")
    assert read_yaml(".github/workflows/check.yml")["jobs"]
    assert "- run: .ci/run\n" in workflow
    assert f'python-version: "{PYTHON}"' in workflow
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_hooks_call_tools_of_the_lock() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]  # type: ignore[misc]
    assert repository["repo"] == "local"
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = {"ruff": "ruff", "lint-imports": "import-linter"}
    for hook in repository["hooks"]:
        command = shlex.split(hook["entry"])[0]
        assert command.startswith(".venv/bin/")
        assert re.search(rf"^{packages[Path(command).name]}==", lock, re.MULTILINE)


def test_the_containers_have_the_makefiles_python() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM python:{PYTHON}-slim AS base" in dockerfile
    assert {"cpu", "gpu"} == set(re.findall(r"^FROM base AS (\w+)$", dockerfile, re.MULTILINE))
    for names in re.findall(r"^COPY --chown=\w+ (.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / name).exists() for name in names.split())
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert f" AS {container['build']['target']}\n" in dockerfile
    assert container["postCreateCommand"] == "make setup"


def test_an_image_holds_nothing_that_git_ignores() -> None:
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {line.removeprefix("/") for line in ignored if line} <= set(left_out)


def test_the_package_supports_the_makefiles_python_and_says_so_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [text.rpartition(" ")[2] for text in project["classifiers"] if ":: Python :: 3." in text]
    assert PYTHON in versions
    low, high = re.findall(r"3\.\d+", project["requires-python"])
    assert versions == [f"3.{minor}" for minor in range(int(low[2:]), int(high[2:]))]


def test_the_changelog_has_the_packages_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
