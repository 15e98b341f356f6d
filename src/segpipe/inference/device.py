"""Chooses the device, and makes its results repeatable."""

import contextlib
import ctypes
import importlib.metadata
import itertools
import logging
import os
import platform
import sys
from pathlib import Path

import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.inference.instructions import LIMITS, are_limited

# Besides torch, these packages decode or augment images, compute weights or write them: another version of one may give
# other bits. simsimd and stringzilla do albucore's arithmetic, scipy some of albumentations'.
PACKAGES = (
    "albucore", "albumentations", "numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow", "safetensors",
    "scipy", "segmentation-models-pytorch", "simsimd", "stringzilla", "timm", "torchvision",
)  # fmt: skip

log = logging.getLogger(__name__)

# Constants of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def choose_device(name: str) -> torch.device:
    """Turns `auto`, `cpu`, `mps`, `cuda` or `cuda:N` into a device.

    Raises:
        ConfigError: the machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}; known: auto, cpu, mps, cuda, cuda:N") from error
    num_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise ConfigError(f"device {name!r}: this machine has {num_gpus} CUDA devices; use auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps': this machine has none; use auto or cpu")
    return device


def device_of(module: nn.Module) -> torch.device:
    """Gives the device of a network; without parameters and buffers it is the CPU."""
    first = next(itertools.chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def computes_bf16(device: torch.device) -> bool:
    """Whether a device computes products of bfloat16 itself; elsewhere torch imitates them, which takes longer."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" and not are_limited() else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def check_instructions(device: torch.device) -> None:
    """Makes sure that this process computes the same bits as each x86-64 CPU with AVX2.

    Raises:
        ConfigError: the device is no such CPU, or this process is not limited.
    """
    if device.type != "cpu" or not torch.cpu.get_capabilities().get("avx2", False):
        raise ConfigError(
            f"train.deterministic: anywhere is for x86-64 CPUs with AVX2; this is {device.type} on "
            f"{platform.machine()}{'' if device.type != 'cpu' else ' without AVX2'}: write device: cpu under train and "
            "evaluate, on a machine that has it, or train.deterministic: strict"
        )
    if not are_limited():
        raise ConfigError(
            "train.deterministic: anywhere: this process has loaded torch without the limit; run `dvc repro`, or "
            "`PYTHONPATH=src python -m segpipe.stages.train`"
        )


def make_repeatable(seed: int, num_threads: int, is_strict: bool = True) -> None:
    """Fixes what torch draws at random or chooses by the machine: seeds, number of threads, kernels.

    The same wheels, model of CPU, number of threads and device then give the same weights, bit for bit. On CUDA some
    kernels have no deterministic form; torch warns about each of them that runs.

    Args:
        seed: of torch's generators.
        num_threads: of the CPU.
        is_strict: False lets torch choose kernels by their speed.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.set_num_threads(num_threads)
    # Not by use_deterministic_algorithms, which also sets the compiler up: 1.5 s of imports.
    torch.set_deterministic_debug_mode("warn" if is_strict else "default")
    # Deterministic mode also fills every new tensor. That helps only programs that read uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not is_strict


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of returning it, which avoids most page faults of a CPU training."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def describe_environment(device: torch.device) -> dict[str, str]:
    """Gives the versions and properties that the weights' bits depend on, besides seed, data, code and parameters."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **_versions_of_packages(),
        # Two machines of one capability and different makes gave other bits: kernels are cut by the size of caches.
        **({"cpu": _name_limits() if are_limited() else _name_cpu()} if device.type == "cpu" else {}),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _name_limits() -> str:
    return f"any with AVX2, {', '.join(f'{name}={value}' for name, value in LIMITS.items())}"


def _name_cpu() -> str:
    """Gives the first CPU's name, model and cache as Linux tells them: a virtual machine's name alone says little."""
    facts = {}
    with contextlib.suppress(OSError):
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    if "model name" not in facts:
        return platform.processor() or "unknown"
    details = [f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping", "cache size") if key in facts]
    return ", ".join([facts["model name"], *details])


def _versions_of_packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
