"""What all tests share: the folder of test tools on the path, one finished project, CamVid where it is at hand."""

from __future__ import annotations

import compileall
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser import Browser
    from integration.project import Project

sys.path.insert(0, str(Path(__file__).parent))
# Four workers share two cores: threads that spin while they wait would take them from the others. Read with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads spin too; each process of a test has them

# Begun first, so that no worker of xdist is busy with one of them when the others have nothing left. The second to the
# fourth need no finished project, which the first makes meanwhile.
FIRST = (
    "end_to_end/test_retrain.py",
    "unit/models/test_contract.py",
    "unit/training/test_loop.py",
    "unit/data/building/test_build.py",
    "chaos/test_interrupted_training.py",
    "integration/test_rebuild.py",
    "end_to_end/test_graph.py",
)

# Where Linux keeps files in memory, and how much must be free: the tests write a hundred thousand small files.
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Compiles the sources; lets the folders of tests lie in memory, but not those of slow tests: gigabytes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # from a shell that runs the tests in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the stages of some tests wait for it
    if "not slow" in config.option.markexpr and _is_memory_enough():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    if "PYTEST_XDIST_WORKER" not in os.environ:
        # Once, not in each of the tests' copies of the sources; a shell may forbid Python to write the compiled files.
        compileall.compile_dir(Path(__file__).parents[1] / "src", quiet=1)
    gc.disable()  # of seventeen seconds of collecting the tests it takes seven, and frees nothing


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Says how a worker ended that should not have: its exit code, negative for a signal."""
    if error:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = node.gateway._io.popen.wait(timeout=10)
            print(f"{node.gateway.id} ended with exit code {code}", file=sys.__stderr__, flush=True)


def _is_memory_enough() -> bool:
    if not os.access(MEMORY, os.W_OK):
        return False
    status = os.statvfs(MEMORY)  # in a container it is often small, and no program in it may be run
    return not status.f_flag & os.ST_NOEXEC and status.f_bavail * status.f_frsize >= ENOUGH_BYTES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first; all others stay in their order, the short unit tests last."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(FIRST)))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the whole pipeline has run: to look at, never to change."""
    from integration.project import Project, run_pipeline  # brings MLflow, which the unit tests do not need
    from once import make_once

    return Project(make_once(tmp_path_factory, "finished", run_pipeline))


@pytest.fixture
def finished(original: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished project, removed after the test: a hundred of them are a gigabyte."""
    project = original.copy_to(tmp_path / "project")
    yield project
    shutil.rmtree(project.root)


@pytest.fixture(scope="session")
def starter_folder() -> Path:
    """The starter's labelled images; skips in a clone that `segpipe init` has made a project of one's own."""
    import starter

    if not starter.is_here():
        pytest.skip(starter.NOT_HERE)
    return starter.DATA


@pytest.fixture(scope="session")
def camvid_archive() -> Path:
    """The archive of CamVid, which lies where SEGPIPE_CAMVID says."""
    given = os.environ.get("SEGPIPE_CAMVID")
    if not given:
        pytest.skip("SEGPIPE_CAMVID, the path of camvid.zip, is not set")
    path = Path(given).resolve()
    assert path.is_file(), f"SEGPIPE_CAMVID={given}: no such file"
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One headless Chromium for all tests; skips where none is installed."""
    from browser import find_chromium, start_browser

    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with start_browser(path) as started:
        yield started


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """A browser with a tab that no other test has used."""
    chromium.open_tab()
    return chromium
