"""Limits a process that runs a registered model: few environment variables, and no network for untrusted code."""

import subprocess
from collections.abc import Mapping

# No token, password or address of a server: a model needs none.
VARIABLES = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}
PREFIXES = (
    "CUBLAS_", "CUDA_", "GOMP_", "HIP_", "KMP_", "LC_", "MALLOC_", "MKL_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTORCH_",
    "ROCR_",
)  # fmt: skip
WITHOUT_NETWORK = (("unshare", "--net"), ("unshare", "--user", "--map-current-user", "--net"))


def few_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives the part of an environment that a model's process gets."""
    return {name: value for name, value in environment.items() if name in VARIABLES or name.startswith(PREFIXES)}


def without_network() -> tuple[str, ...]:
    """Gives the beginning of a command that runs without a network; nothing where this system does not allow it."""
    for prefix in WITHOUT_NETWORK:
        try:
            if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                return prefix
        except OSError:
            break
    return ()
