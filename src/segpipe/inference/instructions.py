"""Limits the CPU's instructions to those that all x86-64 machines with AVX2 have, so that they compute the same bits.

torch's libraries choose their kernels by the maker of the CPU and its newest instructions, and other kernels add in
another order. They read the limits when they are loaded: this module must not import torch.
"""

import os
from contextlib import suppress

from segpipe.places import PARAMS_FILE

LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # matrix products, exp, log: with AVX2 Intel's and AMD's CPUs differ
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "OPENCV_IPP": "disabled",  # distances to borders
}


def limit_instructions() -> None:
    """Limits this process, and those that it starts, if `train.deterministic` in this folder is `anywhere`."""
    if _is_asked_for():
        os.environ.update(LIMITS)
        os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # it would warn of its limit


def are_limited() -> bool:
    """Whether this process has been limited."""
    return all(os.environ.get(name) == value for name, value in LIMITS.items())


def _is_asked_for() -> bool:
    with suppress(OSError, ValueError, TypeError, KeyError):  # the stage reports bad parameters
        text = PARAMS_FILE.read_text(encoding="utf-8")
        if "anywhere" in text:
            from ruamel.yaml import YAML
            from ruamel.yaml.error import YAMLError

            with suppress(YAMLError):
                return bool(YAML(typ="safe", pure=True).load(text)["train"]["deterministic"] == "anywhere")
    return False
