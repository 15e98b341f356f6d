"""The wheel: it holds what the package needs, and works in an environment that has only the locked packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from segpipe.project import list_git

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FOLDERS = {"src/segpipe": "segpipe", "pipelines": "pipelines", "tools/starter_data": "starter_data"}


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command without this clone on its path, and gives what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone's files, built in a copy: setuptools writes into `build/`."""
    copy, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in list_git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", output)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *options, copy, cwd=copy)
    (built,) = output.glob("segpipe-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an empty environment with the wheel, which sees the locked packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # Files `.pth` of a folder that is added so are not read: the editable install is not seen.
    (site_packages / "locked.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_each_file_of_its_packages_and_the_licence(wheel: Path) -> None:
    wanted = {
        name.replace(folder, package, 1)
        for folder, package in FOLDERS.items()
        for name in list_git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", folder)
        if (ROOT / name).is_file()
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    assert not wanted - held
    assert {"segpipe/py.typed", "pipelines/worker.sh", "segpipe/cli/model_figures.json"} <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert not [name for name in held if name.startswith(("tests", "benchmarks", "build"))]


def test_an_installed_segpipe_says_its_version_and_is_not_the_clones(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "segpipe", "--version", cwd=tmp_path) == f"segpipe {version('segpipe')}\n"
    where = run(
        installed / "python",
        "-c",
        "import segpipe, pipelines; print(segpipe.__file__, pipelines.__file__)",
        cwd=tmp_path,
    )
    assert all(Path(file).is_relative_to(installed.parent) for file in where.split())


def test_an_installed_segpipe_lists_draws_and_checks(installed: Path, tmp_path: Path) -> None:
    assert "compact_fpn" in run(installed / "segpipe", "models", cwd=tmp_path)
    size = ("--sequences", "3", "--frames", "2", "--height", "48", "--width", "64")
    run(installed / "segpipe", "data", "render", "--output", "streets", *size, cwd=tmp_path)
    assert "6 of 6 samples" in run(installed / "segpipe", "data", "check", "streets", cwd=tmp_path)
    assert (tmp_path / "pages/check/report.html").is_file()


def test_an_installed_segpipe_trains_and_predicts(installed: Path, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "recipes/smoke.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "data", tmp_path / "data")
    run(installed / "segpipe", "check", cwd=tmp_path)
    for stage in ("download", "preprocess", "class_weights", "train", "evaluate"):
        # `python -m` would refuse: DVC's stages run the code of their own clone.
        code = f"import runpy; runpy.run_module('segpipe.stages.{stage}', run_name='__main__')"
        run(installed / "python", "-c", code, cwd=tmp_path)
    image = next((tmp_path / "data/images").iterdir())
    said = run(installed / "segpipe", "predict", image, "--model", "build/model", "--output", "masks", cwd=tmp_path)
    assert said.startswith("1 images predicted")
