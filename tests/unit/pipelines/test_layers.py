"""Who knows whom: the pipelines know of the library no more than that a stage exists, the library nothing of them."""

from pathlib import Path

import pytest
from import_closure import names_imported_by

import pipelines
from pipelines.graph import POOLS, read_stages

ROOT = Path(pipelines.__file__).parents[1]
PIPELINES = sorted((ROOT / "pipelines").glob("*.py"))
LIBRARY = sorted((ROOT / "src/segpipe").rglob("*.py"))


def test_there_is_something_to_look_at() -> None:
    assert {path.stem for path in PIPELINES} > {"flows", "deploy", "services", "workspace"}
    assert len(LIBRARY) > 20


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_pipelines_import_no_more_of_segpipe_than_its_ground_floor_and_stages(path: Path) -> None:
    ours = {name for name in names_imported_by(path) if name.split(".")[0] == "segpipe"}
    assert {name.split(".")[1] for name in ours if "." in name} <= {
        "addresses",
        "errors",
        "files",
        "stages",
        "terminal",
    }, ours
    assert "segpipe" not in ours


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_pipelines_hold_no_machine_learning(path: Path) -> None:
    known = {name.split(".")[0] for name in names_imported_by(path)}
    assert not known & {"torch", "torchvision", "numpy", "cv2", "mlflow", "dvc", "albumentations", "pandas"}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_the_library_imports_neither_prefect_nor_the_pipelines(path: Path) -> None:
    assert not {name.split(".")[0] for name in names_imported_by(path)} & {"prefect", "pipelines"}


def test_every_stage_has_a_known_pool() -> None:
    stages = read_stages(ROOT)
    assert list(stages) == ["download", "preprocess", "class_weights", "train", "evaluate", "register"]
    assert {stage.pool for stage in stages.values()} == set(POOLS)
    assert stages["train"].pool == "gpu"
