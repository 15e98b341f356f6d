"""`segpipe check`: what was built once is not built again, and nothing wrong is remembered."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from facts import missing
from starter import make_params

import segpipe.cli.check
from segpipe.cli import main
from segpipe.cli.check import NUM_REMEMBERED, digest_of_training
from segpipe.config.params import load_config
from segpipe.export import packages
from segpipe.places import REHEARSED
from segpipe.training.beginning import rehearsal

ROOT = Path(__file__).parents[3]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `params.yaml` in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = Path("params.yaml")
    path.write_text(make_params(), encoding="utf-8")
    return path


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is built, in its order."""
    seen: list[object] = []
    rehearse = rehearsal.rehearse

    def note(settings: object) -> None:
        seen.append(settings)
        rehearse(settings)  # type: ignore[arg-type]

    monkeypatch.setattr(rehearsal, "rehearse", note)
    return seen


def test_a_training_is_built_once(params: Path, builds: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["check"]), main(["check"])] == [0, 0]
    assert capsys.readouterr().out == "params.yaml is valid\n" * 2
    assert len(builds) == 1


def test_another_value_or_other_code_is_built(
    params: Path, builds: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["check"]) == 0
    params.write_text(params.read_text(encoding="utf-8").replace("batch_size: ", "batch_size: 1"), encoding="utf-8")
    assert main(["check"]) == 0
    assert len(builds) == 2
    (tmp_path / "package").mkdir()
    (tmp_path / "package/model.py").write_text("width = 3\n", encoding="utf-8")
    monkeypatch.setattr(segpipe.cli.check, "PACKAGE", tmp_path / "package")
    assert main(["check"]) == 0
    (tmp_path / "package/model.py").write_text("width = 4\n", encoding="utf-8")
    assert main(["check"]) == 0
    assert len(builds) == 4


def test_what_cannot_be_built_is_told_each_time(
    params: Path, builds: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("freeze: []", "freeze: [no_such_part]"), encoding="utf-8")
    assert [main(["check"]), main(["check"])] == [1, 1]
    assert not missing(capsys.readouterr().err, "params.yaml: train.freeze", "no_such_part")
    assert len(builds) == 2


@pytest.mark.parametrize("content", ["", "3", "{}", "[1, [2]]", "null"])
def test_a_damaged_record_is_written_again(params: Path, builds: list[object], content: str) -> None:
    REHEARSED.parent.mkdir()
    REHEARSED.write_text(content, encoding="utf-8")
    assert [main(["check"]), main(["check"])] == [0, 0]
    assert len(builds) == 1
    assert json.loads(REHEARSED.read_text(encoding="utf-8")) == [digest_of_training(load_config().train)]


def test_the_record_does_not_grow(params: Path) -> None:
    REHEARSED.parent.mkdir()
    REHEARSED.write_text(json.dumps([f"{number:064x}" for number in range(30)]), encoding="utf-8")
    assert main(["check"]) == 0
    kept = json.loads(REHEARSED.read_text(encoding="utf-8"))
    assert len(kept) == NUM_REMEMBERED
    assert kept[-2:] == [f"{29:064x}", digest_of_training(load_config().train)]


def test_what_would_stop_an_export_is_told_before_the_training(
    params: Path, builds: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = params.read_text(encoding="utf-8")
    changed = text.replace("  export: []", "  export: [openvino]").replace("    window_px:", "    window_px: 512  #")
    assert changed.count("512  #") == 1
    params.write_text(changed, encoding="utf-8")
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "openvino" else name)
    assert main(["check"]) == 1
    said = capsys.readouterr().err
    facts = ("register.export", "openvino", "pip install 'segpipe[export,openvino]'", "window_px: 512")
    assert not missing(said, *facts)
    assert not builds


def test_a_folder_that_cannot_be_written_is_no_error(params: Path) -> None:
    REHEARSED.parent.write_text("a file where the folder should be", encoding="utf-8")
    assert main(["check"]) == 0


def test_the_digest_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from segpipe.cli.check import digest_of_training; from segpipe.config.params import load_config; "
        "digest_of_training(load_config().train); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "pandas"} & set(done.stdout.split())
