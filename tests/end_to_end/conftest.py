"""A clone of the starter, which its user makes a project of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from integration.project import COPIED, REPOSITORY, Project

OF_STARTER = ("params.yaml", "data.dvc", "data/dataset.yaml", "dvc.lock", "metrics.json", "recipes")


@pytest.fixture
def clone(tmp_path: Path, starter_folder: Path) -> Project:
    """A clone of the starter, with the files that its user has."""
    root = tmp_path / "clone"
    for name in (*COPIED, *OF_STARTER):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(REPOSITORY / name, root / name)
    project = Project(root)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "starter"]):
        project.call("git", *command)
    return project
