"""From pixels to a network's input, from logits to classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segpipe.inference.logits import MEAN_RGB, STD_RGB, most_likely, to_input

CPU = torch.device("cpu")


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_to_input_normalises() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 1, 1] = 255
    tensor = to_input(images, CPU)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 2, 2), torch.float32)
    for channel in range(3):
        assert float(tensor[0, channel, 0, 0]) == pytest.approx(-MEAN_RGB[channel] / STD_RGB[channel])
        assert float(tensor[0, channel, 1, 1]) == pytest.approx((255 - MEAN_RGB[channel]) / STD_RGB[channel])


def test_to_input_is_channels_last_and_leaves_the_images_alone() -> None:
    images = _images(2, 5, 7, 3)
    images.flags.writeable = False  # as a memory map is
    before = images.copy()
    assert to_input(images, CPU).is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(images, before)


def test_the_most_likely_class_is_that_of_the_highest_logit() -> None:
    logits_NCHW = torch.tensor([[0.0, 3.0], [2.0, -1.0], [1.0, 3.0]]).view(1, 3, 1, 2)
    assert most_likely(logits_NCHW).tolist() == [[[1, 0]]]  # the first of two equals
