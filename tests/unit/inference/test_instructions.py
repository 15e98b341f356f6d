"""The limit on the CPU's instructions, in processes that have not loaded torch yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from facts import missing

from segpipe.errors import ConfigError
from segpipe.inference.device import check_instructions, computes_bf16
from segpipe.inference.instructions import LIMITS

# What a stage does before it loads torch; the interpreter was called with `-m MODULE`.
BEGINNING = """
import json, os, sys
sys.orig_argv = ["python", "-m", sys.argv[1]]
sys.path.insert(0, sys.argv[2])
import segpipe.stages
"""
NAME_VARIABLES = BEGINNING + "print('torch' in sys.modules, *os.environ)"
# What it does when it has loaded it.
COMPUTE = f"""{BEGINNING}
import torch
from segpipe.inference.device import check_instructions, computes_bf16, describe_environment
cpu = torch.device("cpu")
check_instructions(cpu)
print(json.dumps([describe_environment(cpu), torch.backends.cpu.get_cpu_capability(), computes_bf16(cpu)]))
"""
SOURCES = Path(__file__).parents[3] / "src"
HAS_AVX2 = torch.cpu.get_capabilities().get("avx2", False)


def run_in(folder: Path, code: str, params: str, stage: str = "train") -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    (folder / "src").symlink_to(SOURCES)  # a stage refuses code from elsewhere
    command = [sys.executable, "-c", code, f"segpipe.stages.{stage}", "src"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not HAS_AVX2, reason="needs AVX2")
def test_a_stage_that_is_asked_to_computes_as_any_x86_64_machine(tmp_path: Path) -> None:
    done = run_in(tmp_path, COMPUTE, "train: {deterministic: anywhere}")
    assert done.returncode == 0, done.stderr
    environment, capability, is_bf16 = json.loads(done.stdout)
    assert capability == environment["cpu_capability"] == "AVX2"
    assert environment["cpu"].startswith("any with AVX2"), "its model decides nothing"
    assert not missing(environment["cpu"], *LIMITS)
    assert not is_bf16


@pytest.mark.parametrize(
    ("params", "stage"),
    [
        ("train: {deterministic: strict}", "train"),
        ("train: {experiment: anywhere}", "evaluate"),
        ("anywhere", "train"),
        ("train: {[anywhere", "train"),
        ("[anywhere]", "train"),
        ("train: {deterministic: anywhere}", "register"),  # it times models as they are served
    ],
)
def test_nothing_else_is_limited(tmp_path: Path, params: str, stage: str) -> None:
    done = run_in(tmp_path, NAME_VARIABLES, params, stage)
    assert done.returncode == 0, done.stderr
    has_torch, *names = done.stdout.split()
    assert has_torch == "False"
    assert not LIMITS.keys() & set(names)


def test_what_cannot_be_the_same_anywhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    with pytest.raises(ConfigError) as raised:  # this process has loaded torch without the limits
        check_instructions(cpu)
    assert not missing(str(raised.value), "without the limit", "dvc repro")
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)
    check_instructions(cpu)
    assert not computes_bf16(cpu)
    with pytest.raises(ConfigError) as raised:
        check_instructions(torch.device("cuda"))
    assert not missing(str(raised.value), "train.deterministic: anywhere", "cuda", "device: cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": False})
    with pytest.raises(ConfigError) as raised:
        check_instructions(cpu)
    assert not missing(str(raised.value), "without AVX2", "train.deterministic: strict")
