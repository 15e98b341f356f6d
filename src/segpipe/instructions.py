"""Limits the CPU's instructions to those that all x86-64 machines with AVX2 have, so that they compute the same bits.

torch and oneDNN choose their kernels by the newest instructions of the CPU, and other kernels add in another order.
They read the limits when they are loaded: this module must not import torch.
"""

import os
from contextlib import suppress

from segpipe.places import PARAMS_FILE

LIMITS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def limit_instructions() -> None:
    """Limits this process, and those that it starts, if `train.deterministic` in this folder is `anywhere`."""
    if _is_asked_for():
        os.environ.update(LIMITS)


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
                return bool(YAML(typ="safe").load(text)["train"]["deterministic"] == "anywhere")
    return False
