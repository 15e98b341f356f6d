"""The disk is full in a stage, or while DVC keeps its result: a plain message, and with space again the same result."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos import stale
from chaos import test_interrupted_training as training
from chaos.stale import OUTS, Undisturbed
from integration.project import STAGES, Project

SPARE_BYTES = 24_000_000
BLOCK_BYTES = 4096

pytestmark = pytest.mark.slow
undisturbed = stale.undisturbed


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own.

    Args:
        folder: where it is mounted.
    """

    folder: Path

    def fill(self) -> None:
        """Takes all the space that is left."""
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            for size in (256 * BLOCK_BYTES, BLOCK_BYTES):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self) -> None:
        """Gives the space back."""
        (self.folder / "ballast").unlink()


@pytest.fixture
def mount() -> Iterator[Callable[[Path, int], SmallDisk]]:
    """Mounts a small disk on an empty folder; skips where the system does not let us."""
    mounted: list[Path] = []

    def mount(folder: Path, size_bytes: int) -> SmallDisk:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("only root can mount a small disk, and not everywhere")
        mounted.append(folder)
        return SmallDisk(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk_and_project(
    original: Project, tmp_path: Path, mount: Callable[[Path, int], SmallDisk]
) -> tuple[SmallDisk, Project]:
    """A finished project that lies on a small disk as a whole."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = mount(folder, _size_of(original.root) + SPARE_BYTES)
    return disk, original.copy_to(folder / "project")


def _size_of(folder: Path) -> int:
    return int(subprocess.check_output(["du", "-s", "-B1", str(folder)]).split()[0])


@pytest.mark.parametrize("stage", STAGES)
def test_the_disk_is_full_at_the_first_write(
    disk_and_project: tuple[SmallDisk, Project], undisturbed: Undisturbed, stage: str
) -> None:
    _play(*disk_and_project, undisturbed, stage, lambda: True)


def test_the_disk_is_full_in_the_middle_of_a_training(
    disk_and_project: tuple[SmallDisk, Project], undisturbed: Undisturbed
) -> None:
    disk, project = disk_and_project
    _play(disk, project, undisturbed, "train", lambda: training.epochs_reported(project) >= 3)


def test_the_disk_is_full_when_a_training_writes_its_weights(
    finished: Project, undisturbed: Undisturbed, mount: Callable[[Path, int], SmallDisk]
) -> None:
    # Outs lie on a disk of their own, so all epochs and their checkpoints find space.
    build = finished.root / "build"
    build.rename(finished.root / "content")
    build.mkdir()
    disk = mount(build, _size_of(finished.root / "content") + SPARE_BYTES)
    finished.call("sh", "-c", "cp -a content/. build && rm -r content")
    _play(disk, finished, undisturbed, "train", lambda: True)
    assert training.epochs_reported(finished) == training.NUM_EPOCHS


@pytest.mark.parametrize("stage", STAGES)
def test_the_disk_is_full_when_dvc_keeps_the_result(
    disk_and_project: tuple[SmallDisk, Project], undisturbed: Undisturbed, stage: str
) -> None:
    disk, project = disk_and_project
    expected = undisturbed.result(stage)
    stale.make_stale(project, stage)
    with stale.started(project, stage) as (dvc, process):
        stale.wait_until(lambda: not stale.is_alive(process))
        disk.fill()
        dvc.wait()
    disk.empty()
    said = stale.said_by(project)
    print(f"{stage}: {said[-300:]}")
    faults = stale.run_again(project, stage)
    faults += stale.find_differences(project, expected)
    faults += stale.find_faults_in_mlflow(project, stage)
    assert faults == []


def _play(
    disk: SmallDisk,
    project: Project,
    undisturbed: Undisturbed,
    stage: str,
    is_time: Callable[[], bool],
) -> None:
    """Fills the disk at a time, sees the refusal, gives the space back and runs the stage again."""
    expected = undisturbed.result(stage)
    stale.make_stale(project, stage)
    before = _other_outs(project, stage)
    with stale.started(project, stage) as (dvc, _):
        assert stale.wait_until(lambda: is_time() or dvc.poll() is not None)
        disk.fill()
        dvc.wait()
    disk.empty()
    said = stale.said_by(project)
    print(f"{stage}: {[line for line in said.splitlines() if 'segpipe: ' in line]}")
    faults = _find_faults_in_refusal(dvc, said)
    if _other_outs(project, stage) != before:
        faults.append("files of other stages have changed")
    faults += [f"is left: {path}" for path in (project.root / "build").glob(".*.part")]
    faults += stale.run_again(project, stage)
    faults += stale.find_differences(project, expected)
    faults += stale.find_faults_in_mlflow(project, stage)
    assert faults == []


def _find_faults_in_refusal(dvc: subprocess.Popen[str], said: str) -> list[str]:
    faults = []
    if dvc.returncode == 0:
        faults.append("dvc repro ended well")
    if "exited with 1" not in said or said.count("segpipe: ") != 1:
        faults.append(f"no plain message: {said[-600:]}")
    if "Traceback" in said:
        faults.append(f"a traceback: {said[-600:]}")
    return faults


def _other_outs(project: Project, stage: str) -> dict[str, bytes]:
    """Files of the stages that do not run now; not what they leave for a moment, which begins with a dot."""
    return {
        name: content
        for name, content in project.files().items()
        if not f"{name}/".startswith(f"{OUTS[stage]}/") and "/." not in name and name != "build/ballast"
    }
