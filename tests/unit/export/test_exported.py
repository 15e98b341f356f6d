"""What is refused when an export is loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from facts import missing

from segpipe.errors import StoreError
from segpipe.export.exported import ExportedModel, open_session

from .conftest import Exported


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / "copied"))


def test_a_changed_file_is_refused(copied: Path) -> None:
    path = copied / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(StoreError) as raised:
        ExportedModel.load(copied)
    assert not missing(str(raised.value), str(path), "sha256", "segpipe export")


@pytest.mark.parametrize("name", ["model.onnx", "export.json"])
def test_a_missing_file_is_refused(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(StoreError) as raised:
        ExportedModel.load(copied)
    assert not missing(str(raised.value), str(copied / name))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(StoreError) as raised:
        open_session(tmp_path / "model.onnx")
    assert not missing(str(raised.value), str(tmp_path / "model.onnx"))


def test_torch_is_not_loaded(exported: Exported) -> None:
    code = (
        "import sys; from pathlib import Path; from segpipe.export.exported import ExportedModel; "
        f"ExportedModel.load(Path({str(exported.folder)!r})); print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "mlflow"} & set(done.stdout.splitlines())


def test_threads_sleep_where_the_machine_is_shared(exported: Exported) -> None:
    options = open_session(exported.folder / "model.onnx", 1, sleeps=True).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
