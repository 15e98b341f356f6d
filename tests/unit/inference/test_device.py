"""The choice of a device."""

import cv2
import numpy as np
import PIL
import pytest
import torch

from segpipe.errors import ConfigError
from segpipe.inference import device
from segpipe.inference.device import choose_device, describe_environment, device_of


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_network_is_where_its_parameters_are() -> None:
    assert device_of(torch.nn.Conv2d(1, 1, 1, device="meta")) == torch.device("meta")
    assert device_of(torch.nn.BatchNorm2d(1, affine=False, device="meta")) == torch.device("meta")  # buffers alone
    assert device_of(torch.nn.ReLU()) == torch.device("cpu")


def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(ConfigError, match=r"device 'cuda:99': this machine has \d+ CUDA devices; use auto or cpu"):
        choose_device("cuda:99")


def test_the_environment_is_what_the_bits_depend_on() -> None:
    environment = describe_environment(torch.device("cpu"))
    assert environment["device"] == "cpu"
    assert environment["torch"] == torch.__version__
    assert environment["num_threads"] == str(torch.get_num_threads())


def test_the_environment_names_every_package_that_touches_pixels_or_numbers() -> None:
    environment = describe_environment(torch.device("cpu"))
    assert environment["numpy"] == np.__version__
    assert environment["pillow"] == PIL.__version__
    assert environment["opencv-python-headless"].startswith(cv2.__version__)
    assert {
        "albucore",
        "albumentations",
        "pandas",
        "pyarrow",
        "safetensors",
        "scipy",
        "torchvision",
    } <= environment.keys()
    assert environment == describe_environment(torch.device("cpu"))


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "PACKAGES", ("numpy", "no-such-package"))
    environment = describe_environment(torch.device("cpu"))
    assert "numpy" in environment
    assert "no-such-package" not in environment


@pytest.mark.parametrize("is_strict", [True, False])
def test_fast_kernels_are_allowed_only_where_they_are_asked_for(is_strict: bool) -> None:
    try:
        device.make_repeatable(0, torch.get_num_threads(), is_strict)
        assert torch.are_deterministic_algorithms_enabled() is is_strict
        assert torch.backends.cudnn.benchmark is not is_strict
    finally:  # as other tests expect it
        torch.set_deterministic_debug_mode("default")
        torch.backends.cudnn.benchmark = False
