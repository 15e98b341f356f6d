"""Options of two functions in one: what is checked, what is shown, and who gets which."""

from __future__ import annotations

import inspect
from typing import Annotated

import pytest
from pydantic import Field
from torch import nn

from segpipe.choices import MODELS, Registry
from segpipe.errors import ConfigError
from segpipe.models.parts.options import Build, with_options_of

Width = Annotated[int, Field(ge=1)]


def describe(*, width: Width = 3, bias: bool = True) -> nn.Module:
    """Describes a layer.

    Args:
        width: of the layer.
        bias: whether it has one.
    """
    return nn.Linear(1, width, bias)


@pytest.fixture
def build() -> Build:
    @with_options_of(describe)
    def build_model(*, num_classes: int, depth: Width = 2, **options: object) -> nn.Module:
        """Builds the layers.

        Args:
            num_classes: channels of the output.
            depth: number of layers.
        """
        return nn.Sequential(*(describe(**options) for _ in range(depth)), nn.Linear(1, num_classes))  # type: ignore[arg-type]

    return build_model


@pytest.fixture
def registry(build: Build, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(Registry, "function_of", lambda *_: build)
    return MODELS


def test_options_of_both_are_declared(build: Build) -> None:
    assert build.__kwdefaults__ == {"width": 3, "bias": True, "depth": 2}
    assert list(inspect.signature(build).parameters) == ["width", "bias", "num_classes", "depth"]
    documentation = inspect.getdoc(build) or ""
    assert all(line in documentation for line in ("width: of the layer.", "bias: whether", "depth: number of layers."))


def test_each_function_gets_its_options(registry: Registry) -> None:
    layers = registry.call("unet", {"width": 5, "depth": 1}, num_classes=7)
    assert [layer.out_features for layer in layers] == [5, 7]
    assert [layer.out_features for layer in registry.call("unet", {}, num_classes=7)] == [3, 3, 7]


def test_options_of_both_are_checked_at_once(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.call("unet", {"width": 0, "depth": "two", "with": 3}, num_classes=7)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["option with", "option width", "option depth"]
    assert "'width'" in lines[0]


def test_an_option_needs_a_name_and_a_default() -> None:
    def without_default(*, width: int) -> None: ...

    def by_position(width: int = 3) -> None: ...

    for own in (without_default, by_position):
        with pytest.raises(AssertionError):
            with_options_of(own)
