"""What all tests share: the folder of test tools on the path, one finished project, CamVid where it is at hand."""

from __future__ import annotations

import os
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
    """A project in which the whole pipeline has run: to look at, never to change. One for all workers of xdist."""
    from integration.project import make_finished_project  # brings MLflow, which the unit tests do not need

    folder = tmp_path_factory.getbasetemp()
    return make_finished_project(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture
def finished(original: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished project, removed after the test: a hundred of them are a gigabyte."""
    project = original.copy_to(tmp_path / "project")
    yield project
    shutil.rmtree(project.root)


@pytest.fixture(scope="session")
def camvid_archive() -> Path:
    """The archive of CamVid, which lies where SEGPIPE_CAMVID says."""
    given = os.environ.get("SEGPIPE_CAMVID")
    if not given:
        pytest.skip("SEGPIPE_CAMVID, the path of camvid.zip, is not set")
    path = Path(given).resolve()
    assert path.is_file(), f"SEGPIPE_CAMVID={given}: no such file"
    return path
