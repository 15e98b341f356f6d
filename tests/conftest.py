"""What all tests share: the folder of test tools on the path, and one finished project to look at or to copy."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.project import Project

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the whole pipeline has run: to look at, never to change."""
    from integration.project import make_finished_project  # brings MLflow, which the unit tests do not need

    return make_finished_project(tmp_path_factory.getbasetemp())


@pytest.fixture
def finished(original: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished project, removed after the test: a hundred of them are a gigabyte."""
    project = original.copy_to(tmp_path / "project")
    yield project
    shutil.rmtree(project.root)
