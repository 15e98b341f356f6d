"""The limit on the CPU's instructions, in processes that have not loaded torch yet."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from facts import missing

from segpipe.errors import ConfigError
from segpipe.inference.device import check_instructions, computes_bf16
from segpipe.instructions import LIMITS

# What a stage does before and after it has loaded torch.
CODE = """
import json
import segpipe.stages
import torch
from segpipe.inference.device import check_instructions, computes_bf16, describe_environment
cpu = torch.device("cpu")
check_instructions(cpu)
print(json.dumps([describe_environment(cpu), computes_bf16(cpu)]))
"""


def run_in(folder: Path, params: str) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    return subprocess.run([sys.executable, "-c", CODE], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in {"AVX2", "AVX512"}, reason="needs AVX2")
def test_a_stage_that_is_asked_to_computes_as_any_x86_64_machine(tmp_path: Path) -> None:
    done = run_in(tmp_path, "train: {deterministic: anywhere}")
    assert done.returncode == 0, done.stderr
    environment, is_bf16 = json.loads(done.stdout)
    assert environment["cpu_capability"] == "AVX2"
    assert "cpu" not in environment, "its model decides nothing"
    assert environment["platform"] == f"{platform.system()} x86_64"
    assert not is_bf16


@pytest.mark.parametrize(
    "params",
    ["train: {deterministic: strict}", "train: {experiment: anywhere}", "anywhere", "train: {[anywhere", "[anywhere]"],
)
def test_other_parameters_limit_nothing(tmp_path: Path, params: str) -> None:
    done = run_in(tmp_path, params)
    assert done.returncode == 1
    assert "ConfigError: train.deterministic: anywhere" in done.stderr


def test_what_cannot_be_the_same_anywhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(ConfigError):  # this process has loaded torch without the limits
        check_instructions(torch.device("cpu"))
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)
    check_instructions(torch.device("cpu"))
    assert not computes_bf16(torch.device("cpu"))
    with pytest.raises(ConfigError) as raised:
        check_instructions(torch.device("cuda"))
    assert not missing(str(raised.value), "train.deterministic: anywhere", "cuda", "train.device: cpu")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(ConfigError):
        check_instructions(torch.device("cpu"))
