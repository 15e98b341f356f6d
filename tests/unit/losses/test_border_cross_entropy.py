"""U-Net's loss by hand, next to plain cross-entropy, and its options."""

from __future__ import annotations

import math

import pytest
import torch

from segpipe.choices import LOSSES
from segpipe.classes import IGNORE_INDEX
from segpipe.errors import ConfigError
from segpipe.losses import cross_entropy
from segpipe.losses.border_cross_entropy import build_loss

WEIGHTS = torch.tensor([0.5, 2.0], dtype=torch.float64)


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    # Two cells of class 1 at 0..1 and 5 (closeness as in parts/test_border_map.py), then void.
    logits = torch.randn(1, 2, 1, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.tensor([[[1, 1, 0, 0, 0, 1, IGNORE_INDEX]]])


def test_equals_a_slow_loop() -> None:
    logits, target = _batch()
    gap, far = math.exp(-16 / 50), math.exp(-36 / 50)
    closeness = [far, gap, gap, gap, gap, gap]
    total = weight_sum = 0.0
    for x, close in enumerate(closeness):
        truth = int(target[0, 0, x])
        scores = logits[0, :, 0, x].tolist()
        weight = float(WEIGHTS[truth]) + 10 * close
        total += weight * (math.log(sum(map(math.exp, scores))) - scores[truth])
        weight_sum += weight
    value = build_loss(class_weights=WEIGHTS, object_classes=[1])(logits, target).mean()
    assert float(value) == pytest.approx(total / weight_sum, rel=1e-6)


def test_without_w0_it_is_cross_entropy() -> None:
    value = build_loss(class_weights=WEIGHTS, w0=0.0)(*_batch()).mean()
    torch.testing.assert_close(
        value, cross_entropy.build_loss(class_weights=WEIGHTS)(*_batch()).mean(), rtol=1e-12, atol=0
    )


def test_all_classes_are_objects_unless_some_are_named() -> None:
    values = [
        build_loss(class_weights=WEIGHTS, object_classes=classes)(*_batch()).mean() for classes in (None, [0, 1], [1])
    ]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_a_class_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match=r"object_classes: there is no class -1, 2; the data's classes are 0\.\.1$"):
        LOSSES.call("border_cross_entropy", {"object_classes": [2, 1, -1]}, class_weights=WEIGHTS)
    with pytest.raises(ConfigError, match="option object_classes: must have at least 1 item"):
        LOSSES.call("border_cross_entropy", {"object_classes": []}, class_weights=WEIGHTS)
