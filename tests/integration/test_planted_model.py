"""A model into whose Python somebody with access to the registry has put code: no command runs it unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import missing
from integration.challenger import fabricate_challenger
from integration.project import MODEL_NAME, Project, add_sample, message_of_refusal
from PIL import Image


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """What the planted code writes."""
    return tmp_path / "planted code ran"


@pytest.fixture
def planted(finished: Project, note: Path) -> Project:
    """Version 1, the champion, holds code that writes the note wherever it is loaded; version 2 is a person's own."""
    finished.change_params("register.better", "point")
    fabricate_challenger(finished, 0.3)
    finished.stage("register")
    run_id = finished.client().get_model_version(MODEL_NAME, "1").run_id
    descriptions = (finished.root / "mlruns").rglob("MLmodel")
    (model,) = (path.parent for path in descriptions if run_id in path.read_text(encoding="utf-8"))
    code = f"\nimport pathlib; pathlib.Path({str(note)!r}).touch()\n"
    for name in ("served_model.py", "code/segpipe/__init__.py", "code/segpipe/inference/network.py"):
        file = model / name
        file.write_text(file.read_text(encoding="utf-8") + code, encoding="utf-8")
    for name in ("numpy.py", "sitecustomize.py"):  # modules that everyone imports
        (model / "code" / name).write_text(code, encoding="utf-8")
    return finished


def test_neither_a_comparison_nor_a_prediction_runs_planted_code(planted: Project, note: Path, tmp_path: Path) -> None:
    message = message_of_refusal(planted.run("segpipe", "registry", "compare", "1", "2"))
    assert not missing(message, "version 1", "compared", "Python")
    assert "--trust" in message
    Image.new("RGB", (64, 48)).save(tmp_path / "image.png")
    planted.call("segpipe", "predict", str(tmp_path / "image.png"), "--output", str(tmp_path / "masks"))
    assert not note.exists()


@pytest.mark.slow
def test_no_other_command_runs_planted_code_until_a_person_says_so(planted: Project, note: Path) -> None:
    for command in (["show", "1"], ["lineage", "1"], ["list"], ["history"], ["rebuild", "1"]):
        planted.call("segpipe", "registry", *command)
        assert not note.exists(), command
    done = planted.run("segpipe", "registry", "compare", "1", "2", "--trust")
    assert done.returncode == 0, done.stderr
    assert not missing(done.stderr, "running", "code")
    assert note.exists()


@pytest.mark.parametrize("measure", ["speed", pytest.param("other images", marks=pytest.mark.slow)])
def test_the_gate_promotes_nothing_that_it_could_compare_only_by_planted_code(
    planted: Project, note: Path, measure: str
) -> None:
    if measure == "speed":
        planted.change_params("register.budget", {"slowdown": 1000.0})
    else:
        add_sample(planted.root / "data", "c_003")
        planted.stage("download")
        planted.stage("preprocess")
    fabricate_challenger(planted, 1.0)
    planted.stage("register")
    registration = planted.json("build/registration.json")
    (reason,) = registration["reasons"]
    assert (registration["decision"], registration["champion"]) == ("not promoted", "1")
    assert reason.startswith("Version 1, the champion, cannot be ")
    assert "segpipe registry promote" in reason
    assert not note.exists()
