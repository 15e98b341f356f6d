"""The choice of a device."""

import pytest
import torch

from segpipe.engine.device import choose_device, describe_environment
from segpipe.errors import ConfigError


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(ConfigError, match=r"device 'cuda:99': this machine has \d+ CUDA devices; use auto or cpu"):
        choose_device("cuda:99")


def test_the_environment_is_what_the_bits_depend_on() -> None:
    environment = describe_environment(torch.device("cpu"))
    assert environment["device"] == "cpu"
    assert environment["torch"] == torch.__version__
    assert environment["num_threads"] == str(torch.get_num_threads())
