"""Choices by name: listing, checking, options."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from segpipe.choices import AUGMENTATIONS, LOSSES, MODELS, READERS, WEIGHTINGS, Registry, nearest
from segpipe.errors import ConfigError

ALL = [MODELS, LOSSES, READERS, WEIGHTINGS, AUGMENTATIONS]
NUM_PX = np.array([[1, 3]])


@pytest.mark.parametrize("registry", ALL, ids=lambda r: r.kind)
def test_names_are_sorted_and_each_has_its_function(registry: Registry) -> None:
    names = registry.names()
    assert names == sorted(names) != []
    assert all(callable(registry.function_of(name)) for name in names)
    assert all(registry.check(name) == name for name in names)


def test_listing_imports_no_choice() -> None:
    code = "import sys; from segpipe.choices import MODELS; MODELS.names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unte", "unknown model 'unte'; did you mean 'unet'? known: "),
        ("UNet", "unknown model 'UNet'; did you mean 'unet' or "),
        ("zzz", "unknown model 'zzz'; known: "),
        ("__init__", "unknown model '__init__'; "),
    ],
)
def test_unknown_name(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MODELS.function_of(name)
    assert str(caught.value).startswith(message)
    assert "unet" in str(caught.value)


def test_the_three_nearest_are_named_and_long_lists_counted() -> None:
    assert nearest("unett", ["unet", "unets", "sunet", "unette", "fpn"]).startswith("did you mean ")
    assert nearest("unett", ["unet", "unets", "sunet", "unette", "fpn"]).count(" or ") == 2
    assert nearest("x1", [f"x{number}" for number in range(60)]).endswith("? there are 60")


def test_folders_of_shared_code_are_not_choices() -> None:
    assert "parts" not in {*MODELS.names(), *LOSSES.names()}
    with pytest.raises(ConfigError, match="unknown model 'parts'"):
        MODELS.function_of("parts")


def test_nearest() -> None:
    assert nearest("crop", ["crops", "flip"]) == "did you mean 'crops'? known: crops, flip"
    assert nearest("xyz", ["crops", "flip"]) == "known: crops, flip"


def test_options_reach_the_function() -> None:
    # Shares 1/4 and 3/4: inverse 4 and 4/3, and their square roots.
    np.testing.assert_allclose(WEIGHTINGS.call("inverse_frequency", {}, num_px=NUM_PX), [4, 4 / 3])
    np.testing.assert_allclose(WEIGHTINGS.call("inverse_frequency", {"power": 0.5}, num_px=NUM_PX), [2, (4 / 3) ** 0.5])


def test_all_wrong_options_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        MODELS.call("unet", {"widht": 8, "depth": 9, "num_classes": 4}, num_classes=2, in_channels=3)
    first, second, third = str(caught.value).splitlines()
    known = "known: attention, batch_norm, deep_supervision, depth, dropout, padding, up_sampling, width"
    assert first == f"model 'unet': option num_classes: unknown; {known}"
    assert second == f"model 'unet': option widht: unknown; did you mean 'width'? {known}"
    assert third == "model 'unet': option depth: must be less than or equal to 6 (got 9)"


def test_option_of_a_choice_without_options() -> None:
    with pytest.raises(ConfigError, match=r"'none'.*power.*unknown"):
        WEIGHTINGS.call("none", {"power": 1}, num_px=NUM_PX)


def test_option_of_a_wrong_type() -> None:
    with pytest.raises(ConfigError, match=r"'unet'.*option.*width.*'wide'"):
        MODELS.call("unet", {"width": "wide"}, num_classes=2, in_channels=3)
