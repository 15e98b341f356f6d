"""The sums of Dice and Tversky by hand."""

from __future__ import annotations

import math

import torch

from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.overlap import measure_overlap


def test_by_hand() -> None:
    # Probabilities of class 0: 1/4, 1/2, 3/4 and, at void, 1/2; truth 0, 1, 1.
    logits = torch.tensor([0.0, 0.0, math.log(3), 0.0]), torch.tensor([math.log(3), 0.0, 0.0, 0.0])
    overlap = measure_overlap(torch.stack(logits).view(1, 2, 1, 4), torch.tensor([[[0, 1, 1, IGNORE_INDEX]]]))
    torch.testing.assert_close(overlap.shared_C, torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(overlap.predicted_C, torch.tensor([1.5, 1.5]))
    assert overlap.true_C.tolist() == [1, 2]
