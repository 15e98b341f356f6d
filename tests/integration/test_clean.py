"""`segpipe clean` lists what nobody needs, deletes it when told to, and nothing that somebody may need."""

import os
import shutil
from pathlib import Path

from filelock import FileLock
from integration.project import Project


def _everything(project: Project) -> dict[str, bytes]:
    folders = ("build", "checkpoints", ".cache", "mlruns", ".dvc/cache", "data")
    return {path: content for folder in folders for path, content in project.files(folder).items()}


def _add_left_overs(project: Project) -> dict[Path, bytes]:
    """What kills, changed parameters and a register that could not reach MLflow leave."""
    (kept,) = (project.root / "checkpoints").iterdir()
    given_up, older = kept.with_name("a" * 64), kept.with_name("b" * 64)
    for copy in (given_up, older):
        shutil.copytree(kept, copy)
    description = (given_up / "training.json").read_text(encoding="utf-8")
    (given_up / "training.json").write_text(description.replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    half_model = project.root / "build/.model.k3_x.part"
    half_model.mkdir()
    files = (
        half_model / "weights.safetensors",
        project.root / "build/.class_weights.json.77.part",
        project.root / ".cache/dataset/shards/.00ff.part",
        kept / ".checkpoint.pt.77.part",
        kept / "checkpoint.pt",
        given_up / "checkpoint.pt",
        older / "checkpoint.pt",
    )
    for file in files:
        file.write_bytes(b"x" * 1000)
    for path in (older, *older.rglob("*")):
        os.utime(path, (0, 0))
    return {path: path.read_bytes() for folder in (given_up, older) for path in folder.rglob("*") if path.is_file()} | {
        file: file.read_bytes() for file in files
    }


def test_what_nobody_needs_is_listed_and_then_deleted(finished: Project) -> None:
    assert finished.call("segpipe", "clean", "--yes") == "there is nothing to delete\n"
    before = _everything(finished)
    left_over = _add_left_overs(finished)
    full = _everything(finished)

    listed = finished.call("segpipe", "clean")
    for name in (".model.k3_x.part", ".class_weights.json.77.part", ".00ff.part", ".checkpoint.pt.77.part"):
        assert name in listed
    assert {"checkpoints/aaaaaaaaaaaa…", "checkpoints/bbbbbbbbbbbb…"} <= set(listed.split())
    assert _everything(finished) == full
    assert len(full) == len(before) + len(left_over)

    with FileLock(finished.root / ".locks/model.lock"):  # a training runs
        said = finished.call("segpipe", "clean", "--yes")
    assert "build/model is being written" in said
    deleted = {path for path in left_over if not path.exists()}
    assert {path.name for path in deleted} == {".class_weights.json.77.part", ".00ff.part"}

    finished.call("segpipe", "clean", "--yes")
    assert _everything(finished) == before
    assert finished.call("segpipe", "clean", "--yes") == "there is nothing to delete\n"


def test_a_training_that_dvc_repro_would_go_on_with_is_kept(finished: Project) -> None:
    finished.change_params("train.epochs", 20)
    (recorded,) = (finished.root / "checkpoints").iterdir()
    interrupted = recorded.with_name("c" * 64)
    shutil.copytree(recorded, interrupted)
    description = (recorded / "training.json").read_text(encoding="utf-8")
    (interrupted / "training.json").write_text(description.replace('"epochs": 12', '"epochs": 20'), encoding="utf-8")
    (interrupted / "checkpoint.pt").write_bytes(b"x")
    (interrupted / "journal.jsonl").write_bytes(b"")
    assert finished.call("segpipe", "clean", "--yes") == "there is nothing to delete\n"
    finished.change_params("train.epochs", 21)
    finished.change_params("train.checkpoint_minutes", 1)
    assert "cccccccccccc" in finished.call("segpipe", "clean", "--yes")
    assert not interrupted.exists()
    assert recorded.exists()  # of build/model
