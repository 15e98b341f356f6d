"""Dilated VGG16: where its scores lie, and how its context module begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segpipe.choices import MODELS
from segpipe.errors import ConfigError
from segpipe.models.dilated_vgg16 import DilatedVGG16


def _build(num_classes: int = 5, **options: Any) -> DilatedVGG16:
    options = {"width": 4, "fc_width": 16, **options}
    module: DilatedVGG16 = MODELS.call(
        "dilated_vgg16", options, num_classes=num_classes, in_channels=3, pretrained=False
    )
    return module


@torch.no_grad()
def test_scores_lie_where_their_pixels_lie() -> None:
    class Columns(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
            height, width = (-(-size // 8) for size in images_NCHW.shape[-2:])
            return [(torch.arange(float(width)) * 8 + 3.5).expand(1, 1, height, width)]

    module = _build(1, context="none", fc_width=1)
    module.encoder = Columns()  # type: ignore[assignment]
    nn.init.ones_(module.score.weight)
    assert module.score.bias is not None
    nn.init.zeros_(module.score.bias)
    logits = module(torch.zeros(1, 3, 43, 61))
    torch.testing.assert_close(logits[0, 0, :, 4:-5], torch.arange(4.0, 56.0).expand(43, -1))


@pytest.mark.parametrize("context", ["basic", "large"])
def test_no_class_begins_without_a_gradient(context: str) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        module = _build(context=context, dropout=0.0)
        module(torch.randn(1, 3, 64, 64)).logsumexp(dim=1).sum().backward()
        assert module.score.weight.grad is not None
        assert module.score.weight.grad.flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("context", "expected"),
    # C = 3 classes. Basic: seven of 9 C C + C and one of C C + C. Large: 15,422 C C, and biases of 97 C.
    [("none", 0), ("basic", 7 * (81 + 3) + 9 + 3), ("large", 15_422 * 9 + 97 * 3)],
)
def test_number_of_parameters_of_each_form(context: str, expected: int) -> None:
    module = _build(3, context=context)
    assert sum(parameter.numel() for parameter in module.context.parameters()) == expected
    with torch.no_grad():
        assert module.eval()(torch.zeros(1, 3, 32, 35)).shape == (1, 3, 32, 35)


def test_unknown_form_of_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="option context: must be 'basic', 'large' or 'none'"):
        _build(context="huge")
