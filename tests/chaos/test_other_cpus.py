"""With `train.deterministic: anywhere`, emulated CPUs of other makers train and measure the same bits as this one.

qemu computes each instruction exactly, but thirty times as slowly; the CPU that it shows has its own name, instructions
and caches.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from facts import missing
from integration.project import Project

QEMU = "qemu-x86_64"
# AVX2 of two makers with other caches; the third has none.
HASWELL, ROME, SANDY_BRIDGE = "Haswell", "EPYC-Rome", "SandyBridge"
RESULTS = ("build/model/weights.safetensors", "build/model/model.json", "build/evaluation/metrics.json", "metrics.json")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(QEMU) is None, reason="no qemu is installed: apt-get install qemu-user"),
]


@pytest.fixture
def stale(finished: Project) -> Project:
    """A finished project with a training that is to give the same bits anywhere, by what differs otherwise.

    Matrix products, exponentials, distances to borders and convolutions of single images differ between these CPUs.
    """
    finished.change_params("train.deterministic", "anywhere")
    finished.change_params("train.model.options", {"width": 4, "depth": 2, "attention": "non_local"})
    finished.change_params("train.loss", [{"name": "focal"}, {"name": "border_cross_entropy"}])
    finished.change_params("train.micro_batch", 1)
    finished.change_params("train.epochs", 2)
    finished.change_params("train.num_threads", 2)
    for folder in ("model", "evaluation"):
        shutil.rmtree(finished.root / "build" / folder)
    (finished.root / "build/class_weights.json").unlink()
    (finished.root / "metrics.json").unlink()
    return finished


def run(project: Project, stage: str, *emulator: str) -> tuple[int, str]:
    """Runs a stage in a process of its own; gives its exit code and what it says."""
    with project.start(*emulator, sys.executable, "-m", f"segpipe.stages.{stage}") as process:
        stdout, stderr = process.communicate()
    return process.returncode, f"{stdout}{stderr}"


def results(project: Project) -> dict[str, bytes]:
    """What a training and its evaluation have found, without times."""
    return {name: (project.root / name).read_bytes() for name in RESULTS}


def test_other_cpus_give_the_same_weights_and_metrics(stale: Project, tmp_path: Path) -> None:
    others = {cpu: stale.copy_to(tmp_path / cpu) for cpu in (HASWELL, ROME)}
    for stage in ("class_weights", "train", "evaluate"):
        for emulator, project in [((), stale), *(((QEMU, "-cpu", cpu), project) for cpu, project in others.items())]:
            code, said = run(project, stage, *emulator)
            assert code == 0, said
    for cpu, project in others.items():
        assert results(project) == results(stale), cpu


def test_a_cpu_without_avx2_is_refused(stale: Project) -> None:
    assert run(stale, "class_weights")[0] == 0
    code, said = run(stale, "train", QEMU, "-cpu", SANDY_BRIDGE)
    assert code == 1, said
    assert not missing(said, "train.deterministic: anywhere", "without AVX2", "train.deterministic: strict")
    assert "Traceback" not in said
    assert not (stale.root / "build/model").exists()
